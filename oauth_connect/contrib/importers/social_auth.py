"""Reads the tokens of social-auth-app-django: UserSocialAuth and its ``extra_data``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from oauth_connect.jobs.import_tokens import ForeignToken
from oauth_connect.tracebacks import methods_without_locals

BATCH = 200

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
        stored = row.extra_data = _decoded(row.extra_data)
        # Without this time, a relative lifetime would start again at each reading.
        stored["auth_time"] = stored.get("auth_time") or int(row.modified.timestamp())
        access_token = stored.get("access_token")
        return ForeignToken(
            pk=row.pk,
            provider=row.provider,
            user=row.user,
            account_id=row.uid,
            client_id=self._client_of(row.provider),
            obtained_at=_datetime(stored["auth_time"]) or row.modified,
            access_token=access_token,
            refresh_token=stored.get("refresh_token"),
            expires_at=self._expires_at(row),
            scope=stored.get("scope"),
            profile=stored,
            # For OAuth 1.0a the package stores the whole token response.
            is_oauth2=not isinstance(access_token, Mapping),
        )

    def _expires_at(self, row: Any) -> datetime | None:
        try:
            left = row.expiration_timedelta()
        except (ValueError, TypeError, OverflowError):
            return None
        return datetime.now(UTC) + left if isinstance(left, timedelta) else None

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
        except ValueError:
            return {}
    return dict(extra_data) if isinstance(extra_data, Mapping) else {}


def _datetime(timestamp: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
