"""Reads the tokens of django-allauth: SocialToken, with its SocialAccount and SocialApp.

django-allauth stores them only with ``SOCIALACCOUNT_STORE_TOKENS = True``. It does not store granted scopes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from oauth_connect.jobs.import_tokens import ForeignToken
from oauth_connect.tracebacks import methods_without_locals

BATCH = 200

# Only providers whose account ids are those of our preset. Slack's tokens and ids differ.
NAMES = {"twitter_oauth2": "x"}


@methods_without_locals
class Tokens:
    """A Source. Raises ImproperlyConfigured where the package is not installed."""

    package = "allauth"
    names = NAMES

    def __init__(self) -> None:
        if not apps.is_installed("allauth.socialaccount"):
            raise ImproperlyConfigured(
                "The tables of django-allauth are missing. Install it, and add allauth.socialaccount to "
                "INSTALLED_APPS during the import."
            )
        self._model = apps.get_app_config("socialaccount").get_model("SocialToken")
        self._adapter = import_string("allauth.socialaccount.adapter.get_adapter")()
        self._registry = import_string("allauth.socialaccount.providers.registry")
        self._oauth1 = import_string("allauth.socialaccount.providers.oauth.provider.OAuthProvider")
        self._registry.load()
        self._client_of = cache(self._only_client)

    def count(self, providers: Collection[str] = ()) -> int:
        return int(self._rows(providers).count())

    def read(self, providers: Collection[str] = ()) -> Iterator[Sequence[ForeignToken]]:
        rows = self._rows(providers).select_related("app", "account__user").order_by("pk")
        batch = list(rows[:BATCH])
        while batch:
            yield [self._foreign_token(row) for row in batch]
            batch = list(rows.filter(pk__gt=batch[-1].pk)[:BATCH])

    def _rows(self, providers: Collection[str]) -> Any:
        rows = self._model._default_manager.all()
        return rows.filter(account__provider__in=providers) if providers else rows

    def _foreign_token(self, row: Any) -> ForeignToken:
        account, app = row.account, row.app
        return ForeignToken(
            pk=row.pk,
            provider=account.provider,
            user=account.user,
            account_id=account.uid,
            client_id=app.client_id if app else self._client_of(account.provider),
            # Each login with the account stores the new token.
            obtained_at=account.last_login,
            access_token=row.token,
            refresh_token=row.token_secret,
            expires_at=row.expires_at,
            profile=_profile(account.extra_data),
            is_oauth2=not self._is_oauth1(app.provider if app else account.provider),
        )

    def _only_client(self, provider: str) -> str:
        """Return the client for tokens without an app: the only one in the settings, else ""."""
        apps_of_provider = self._adapter.list_apps(None, provider=provider)
        clients = {app.client_id for app in apps_of_provider}
        return str(clients.pop()) if len(clients) == 1 else ""

    def _is_oauth1(self, provider: str) -> bool:
        provider_class = self._registry.get_class(provider)
        return provider_class is not None and issubclass(provider_class, self._oauth1)


def _profile(extra_data: Any) -> dict[str, Any]:
    """Return the values of the provider's responses. For OpenID Connect they are nested, userinfo first.

    Old rows hold JSON as text.
    """
    if isinstance(extra_data, str):
        try:
            extra_data = json.loads(extra_data)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(extra_data, Mapping):
        return {}
    nested = [extra_data.get(name) for name in ("id_token", "userinfo")]
    return {
        **extra_data,
        **{key: value for one in nested if isinstance(one, Mapping) for key, value in one.items()},
    }
