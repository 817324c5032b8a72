"""The page "Which account?", where an owner has several accounts at a provider."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from oauth_connect.flows.choice import account_in_use, active_accounts, choose
from oauth_connect.flows.paths import local_path, mount_of
from oauth_connect.models import Connection
from oauth_connect.views.json_answers import UNKNOWN_CONNECTION, choices, error_json
from oauth_connect.views.pages import OwnerPage, connections_path, offered, say


@dataclass(frozen=True, slots=True)
class Use:
    """Whether calls use one of several accounts. ``can_change``: there is another one to choose."""

    is_used: bool = False
    is_open: bool = False
    can_change: bool = False

    @classmethod
    def of(cls, connection: Connection, connections: Sequence[Connection]) -> Use:
        active = [row for row in connections if row.status == Connection.Status.ACTIVE]
        if len(connections) < 2 or not active:
            return cls()
        in_use = account_in_use(connections)
        return cls(
            is_used=connection == in_use,
            is_open=in_use is None and connection in active,
            can_change=any(row != connection for row in active),
        )


class ChooseView(OwnerPage):
    """GET: the owner's active accounts at a provider. POST: calls use the chosen one from now on.

    If the request accepts JSON first, both answer in JSON. The choice is kept for the owner and the provider.
    """

    http_method_names = ["get", "head", "post", "options"]
    template_name = "oauth_connect/choose.html"

    def get(self, request: HttpRequest, provider: str) -> HttpResponse:
        return self.page(provider, request.GET.get("next", ""))

    def post(self, request: HttpRequest, provider: str) -> HttpResponse:
        next_path = request.GET.get("next", "") or request.POST.get("next", "")
        chosen = request.POST.get("connection", "")
        if not chosen:
            return self.page(provider, next_path, error=_("Choose an account."))
        try:
            connection = choose(self.managing_owner(), provider, uuid.UUID(chosen))
        except (Connection.DoesNotExist, ValueError):
            if self.wants_json():
                return error_json("unknown_connection", UNKNOWN_CONNECTION, 404)
            raise Http404 from None
        if self.wants_json():
            return JsonResponse({"connection": str(connection.pk)})
        account = connection.account_label or connection.account_id or provider
        text = _("%(account)s is used from now on.") % {"account": account}
        say(request, text)
        return redirect(local_path(next_path) or connections_path(request))

    def page(self, slug: str, next_path: str, *, error: str = "") -> HttpResponse:
        owner = self.managing_owner()
        accounts = active_accounts(owner, slug)
        if self.wants_json():
            return self.as_json(accounts, error)
        if not accounts:  # they were disconnected meanwhile, or the provider is unknown, which that page says
            path = reverse(
                "oauth_connect:connect", kwargs={"provider": slug}, current_app=mount_of(self.request)
            )
            return redirect(f"{path}?{urlencode({'next': local_path(next_path)})}")
        labels = {account.account_label for account in accounts}
        context = {
            "provider": offered(slug, owner.key),
            "slug": slug,
            "accounts": accounts,
            "with_ids": len(labels) < len(accounts),  # a label may be a name that two accounts share
            "in_use": account_in_use(accounts),
            "next": local_path(next_path),
            "error": error,
        }
        return self.render_to_response(self.get_context_data(**context), status=400 if error else 200)

    def as_json(self, accounts: Sequence[Connection], error: str) -> HttpResponse:
        """Return the accounts in JSON, and the one that calls use, or None."""
        if error:
            return error_json("not_chosen", error, 400, accounts=choices(accounts))
        in_use = account_in_use(accounts) if accounts else None
        used = str(in_use.pk) if in_use else None
        return JsonResponse({"accounts": choices(accounts), "connection": used})
