"""The list of connected accounts in JSON."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from oauth_connect import flows
from oauth_connect.flows.paths import connect_path, mount_of
from oauth_connect.models import Owner
from oauth_connect.protocol.provider import Provider
from oauth_connect.views.accounts import Entry, accounts_of
from oauth_connect.views.json_answers import name_of
from oauth_connect.views.variables import VariablesForm


def as_json(request: HttpRequest, owner: Owner) -> dict[str, Any]:
    """Return what the page of connected accounts shows. Without ``may_manage``, no URL changes anything."""
    accounts = accounts_of(owner)
    urls = Urls(request, owner)
    providers = [
        {**_provider(one), "connected": accounts.count_of(one.slug), **urls.of_provider(one)}
        for one in accounts.providers
        if owner.may_manage
    ]
    return {
        "connections": [{**_connection(entry), **urls.of_connection(entry)} for entry in accounts.entries],
        "providers": providers,
        "owner": owner.label,
        "may_manage": owner.may_manage,
    }


class Urls:
    """The paths of pages and of the API, in the mount that the visitor uses."""

    def __init__(self, request: HttpRequest, owner: Owner) -> None:
        self._mount = mount_of(request)
        self._may_manage = owner.may_manage

    def of_connection(self, entry: Entry) -> dict[str, str | None]:
        row, may = entry.connection, self._may_manage
        connects = may and entry.provider is not None
        connect = f"{self._path('api_connect', provider=row.provider)}?connection={row.pk}"
        page = connect_path(row.provider, connection=row.pk, mount=self._mount)
        choose = may and (entry.use.is_open or (entry.use.is_used and entry.use.can_change))
        return {
            "connect": connect if connects else None,
            "disconnect": self._path("api_connection", pk=row.pk) if may else None,
            "connect_url": page if connects else None,
            "choose_url": self._path("choose", provider=row.provider) if choose else None,
            "site_url": self._path("site", pk=row.pk) if may and entry.has_sites else None,
        }

    def of_provider(self, provider: Provider) -> dict[str, str]:
        return {
            "connect": self._path("api_connect", provider=provider.slug),
            "connect_url": connect_path(provider.slug, mount=self._mount),
        }

    def _path(self, name: str, **kwargs: Any) -> str:
        return reverse(f"oauth_connect:{name}", kwargs=kwargs, current_app=self._mount)


def _connection(entry: Entry) -> dict[str, Any]:
    row = entry.connection
    return {
        "id": row.pk,
        "provider": row.provider,
        "provider_name": entry.provider.label if entry.provider else row.provider,
        "account": name_of(row),
        "account_id": row.account_id,
        "scopes": row.scopes,
        "status": row.status,
        "health": entry.health,
        "health_text": str(entry.health_text),
        "needs": list(entry.needs()),
        "missing_scopes": entry.missing_scopes,
        "is_used": entry.use.is_used,
        "reconnect_before": row.reconnect_before,
        "created_at": row.created_at,
        "refreshed_at": row.last_refreshed_at,
    }


def _provider(provider: Provider) -> dict[str, Any]:
    asked = flows.asked_variables(provider)
    form = VariablesForm(provider, asked)
    return {
        "slug": provider.slug,
        "name": provider.label,
        "one_account": provider.one_account,
        "scopes": flows.asked_scopes(provider, (), None),
        "variables": [
            {
                "name": name,
                "label": str(field.label),
                "help": str(field.help_text),
                "required": field.required,
                "default": asked[name].default,
                "pattern": asked[name].pattern,
                "choices": list(asked[name].choices),
            }
            for name, field in form.fields.items()
        ],
    }
