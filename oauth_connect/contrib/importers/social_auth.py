"""The tokens of social-auth-app-django: UserSocialAuth and its ``extra_data``."""

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

BATCH = 200

NAMES = {
    "google-oauth2": "google",
    "google-openidconnect": "google",
    "microsoft-graph": "microsoft",
    "salesforce-oauth2": "salesforce",
    "twitter-oauth2": "x",
}


class Tokens:
    """A Source. Raises ImproperlyConfigured where the package is not in use."""

    package = "social_auth"
    names = NAMES

    def __init__(self) -> None:
        if not apps.is_installed("social_django"):
            raise ImproperlyConfigured(
                "There are no tables of social-auth-app-django here: install it, and put social_django "
                "into INSTALLED_APPS for the time of the import."
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
            yield [self._found(row) for row in batch]
            batch = list(rows.filter(pk__gt=batch[-1].pk)[:BATCH])

    def _rows(self, providers: Collection[str]) -> Any:
        rows = self._model._default_manager.all()
        return rows.filter(provider__in=providers) if providers else rows

    def _found(self, row: Any) -> ForeignToken:
        kept = row.extra_data = _kept(row.extra_data)
        # Without its time, a relative lifetime would begin anew at each reading.
        kept["auth_time"] = kept.get("auth_time") or int(row.modified.timestamp())
        access_token = kept.get("access_token")
        return ForeignToken(
            pk=row.pk,
            provider=row.provider,
            user=row.user,
            account_id=row.uid,
            client_id=self._client_of(row.provider),
            obtained_at=_moment(kept["auth_time"]) or row.modified,
            access_token=access_token,
            refresh_token=kept.get("refresh_token"),
            expires_at=self._end(row),
            scope=kept.get("scope"),
            profile=kept,
            # Of OAuth 1.0a the whole answer is stored.
            is_oauth2=not isinstance(access_token, Mapping),
        )

    def _end(self, row: Any) -> datetime | None:
        try:
            left = row.expiration_timedelta()
        except (ValueError, TypeError, OverflowError):
            return None
        return datetime.now(UTC) + left if isinstance(left, timedelta) else None

    def _client(self, provider: str) -> str:
        """Return the client in the settings: that a row was obtained by another is not kept anywhere."""
        try:
            found = self._strategy.get_backend(provider).get_key_and_secret()[0]
        except ValueError:
            # Taken out of AUTHENTICATION_BACKENDS already; the key may still be in the settings.
            found = self._strategy.setting(f"{provider}_KEY")
        return str(found or "")


def _kept(extra_data: Any) -> dict[str, Any]:
    """Old rows hold JSON as text."""
    if isinstance(extra_data, str):
        try:
            extra_data = json.loads(extra_data)
        except ValueError:
            return {}
    return dict(extra_data) if isinstance(extra_data, Mapping) else {}


def _moment(timestamp: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
