"""A member of staff in front of the admin's pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_user_model
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import reverse


class Staff:
    """Somebody with these permissions of the app and no others; without any given, a superuser."""

    def __init__(self, *permissions: str) -> None:
        people = get_user_model().objects
        name = "-".join(permissions) or "superuser"
        if permissions:
            self.user: Any = people.create_user(username=name, password="p", is_staff=True)
            found = apps.get_model("auth", "Permission").objects.filter(
                content_type__app_label="oauth_connect", codename__in=permissions
            )
            assert len(found) == len(permissions), permissions
            self.user.user_permissions.set(found)
        else:
            self.user = people.create_superuser(username=name, password="p")
        self.client = Client()
        self.client.force_login(self.user)

    def get(self, page: str, *args: Any, model: str = "connection", **query: Any) -> HttpResponseBase:
        return self.client.get(path(page, *args, model=model), query)

    def post(self, page: str, *args: Any, model: str = "connection", **data: Any) -> HttpResponseBase:
        return self.client.post(path(page, *args, model=model), data)

    def act(self, action: str, rows: Iterable[Any], **data: Any) -> HttpResponseBase:
        """Choose an action for some rows of the list; return the page that one gets to see."""
        selected = [str(row.pk) for row in rows]
        data = {"action": action, ACTION_CHECKBOX_NAME: selected, **data}
        return self.client.post(path("changelist"), data, follow=True)


def path(page: str, *args: Any, model: str = "connection") -> str:
    return reverse(f"admin:oauth_connect_{model}_{page}", args=args)


def text(response: Any) -> str:
    """The words of a page, without markup, in single spaces."""
    words = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(words).split())


def told(response: Any) -> list[tuple[str, str]]:
    """The messages of a page, each with its level."""
    return [(message.level_tag, str(message)) for message in response.context["messages"]]
