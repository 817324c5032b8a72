"""Reads the tokens of social-auth-app-django: UserSocialAuth and its ``extra_data``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from oauth_connect.jobs.import_tokens import ForeignToken
from oauth_connect.protocol.grants import id_tokens, lifetimes
from oauth_connect.tracebacks import methods_without_locals

BATCH = 200
EXPIRY = ("expires_on", "expires_at", "expires_in", "expires")
# A greater number of seconds is a point in time. The package draws the line here, too.
LONGEST_LIFETIME = timedelta(days=730)

NAMES = {
    "google-oauth2": "google",
    "google-openidconnect": "google",
    "microsoft-graph": "microsoft",
    "salesforce-oauth2": "salesforce",
    "twitter-oauth2": "x",
}


@methods_without_locals
class Tokens:
    """A Source. Raises ImproperlyConfigured where the package is not installed."""

    package = "social_auth"
    names = NAMES

    def __init__(self) -> None:
        if not apps.is_installed("social_django"):
            raise ImproperlyConfigured(
                "The tables of social-auth-app-django are missing. Install it, and add social_django to "
                "INSTALLED_APPS during the import."
            )
        self._model = import_string("social_django.utils.Storage").user
        self._strategy = import_string("social_django.utils.load_strategy")()
        self._client_of = cache(self._client)

    def count(self, providers: Collection[str] = ()) -> int:
        return int(self._rows(providers).count())

    def read(self, providers: Collection[str] = ()) -> Iterator[Sequence[ForeignToken]]:
        rows = self._rows(providers).select_related("user").order_by("pk")
        batch = list(rows[:BATCH])
        while batch:
            yield [self._foreign_token(row) for row in batch]
            batch = list(rows.filter(pk__gt=batch[-1].pk)[:BATCH])

    def _rows(self, providers: Collection[str]) -> Any:
        rows = self._model._default_manager.all()
        return rows.filter(provider__in=providers) if providers else rows

    def _foreign_token(self, row: Any) -> ForeignToken:
        stored = _decoded(row.extra_data)
        # Without a time, a relative lifetime would start again at each reading.
        obtained_at = _moment(stored.get("auth_time")) or row.modified
        access_token = stored.get("access_token")
        return ForeignToken(
            pk=row.pk,
            provider=row.provider,
            user=row.user,
            account_id=row.uid,
            client_id=self._client_of(row.provider),
            obtained_at=obtained_at,
            access_token=access_token,
            refresh_token=stored.get("refresh_token"),
            expires_at=_expires_at(stored, obtained_at),
            scope=stored.get("scope"),
            # Of OpenID Connect accounts the row has no name, only the ID token.
            profile={**(id_tokens.claims_of(stored.get("id_token")) or {}), **stored},
            # For OAuth 1.0a the package stores the whole token response.
            is_oauth2=not isinstance(access_token, Mapping),
        )

    def _client(self, provider: str) -> str:
        """Return the client in the settings. The package does not store the client of a row."""
        try:
            client_id = self._strategy.get_backend(provider).get_key_and_secret()[0]
        except ValueError:
            # The site has removed it from AUTHENTICATION_BACKENDS. The key may still be in the settings.
            client_id = self._strategy.setting(f"{provider}_KEY")
        return str(client_id or "")


def _decoded(extra_data: Any) -> dict[str, Any]:
    """Return ``extra_data`` as a dict. Old rows hold JSON as text."""
    if isinstance(extra_data, str):
        try:
            extra_data = json.loads(extra_data)
        except (ValueError, RecursionError):
            return {}
    return dict(extra_data) if isinstance(extra_data, Mapping) else {}


def _expires_at(stored: Mapping[str, Any], obtained_at: datetime) -> datetime | None:
    """Return the expiry. Back ends keep a point in time or a lifetime in seconds, under several names."""
    for name in EXPIRY:
        value = stored.get(name)
        left = lifetimes.lifetime(value)
        if left is not None and left <= LONGEST_LIFETIME:
            return obtained_at + left
        if (found := _moment(value)) is not None and found.timestamp() > LONGEST_LIFETIME.total_seconds():
            return found
    return None


def _moment(value: Any) -> datetime | None:
    """Return a point in time from epoch seconds, epoch milliseconds or ISO 8601."""
    if isinstance(value, str) and not value.strip().isdigit():
        return lifetimes.moment("iso8601", value)
    # As seconds, milliseconds would be beyond the last year that there is.
    return lifetimes.moment("epoch_seconds", value) or lifetimes.moment("epoch_milliseconds", value)
