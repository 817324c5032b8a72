"""What a test has done in the site's process: ``python -m ...steps NAME`` reads its orders from stdin.

The answer, a line of JSON, holds no token.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test import Client  # noqa: E402

from oauth_connect.models import Connection  # noqa: E402
from tests.support.visitor import answer_of_codeyard  # noqa: E402


def sign_in(orders: dict[str, Any]) -> dict[str, Any]:
    """Sign in with an account at Codeyard, by the package's own flow."""
    browser = Client(headers={"host": "app.example"})
    begun = browser.post("/begin/", secure=True)
    answer = answer_of_codeyard(begun["Location"], username=orders["username"])
    landed = browser.get("/oauth/codeyard/callback/", answer, secure=True)
    return {"status": landed.status_code, "user": browser.session.get("_auth_user_id")}


@transaction.atomic
def write(orders: dict[str, Any]) -> dict[str, Any]:
    """Write rows by the package's own models: label of the model, and values; "user" is a name."""
    written: dict[str, Any] = {}
    for name, (label, values) in orders["rows"].items():
        made = {key: _value(value, written) for key, value in values.items()}
        rows = apps.get_model(label)._default_manager
        written[name] = rows.create(**made)
        # Over what the package itself writes at each save.
        rows.filter(pk=written[name].pk).update(**made)
    return {name: row.pk for name, row in written.items()}


def _value(value: Any, written: dict[str, Any]) -> Any:
    """``["row", name]`` is one written before, ``["user", name]`` a user, ``["time", seconds]`` a moment."""
    match value:
        case ["row", name]:
            return written[name]
        case ["user", name]:
            return get_user_model().objects.get_or_create(username=name)[0]
        case ["time", seconds]:
            return datetime.fromtimestamp(seconds, UTC)
    return value


def tell(orders: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell of all connections. ``holds``: whether its tokens are those that the orders name."""
    return [_told(one, orders) for one in Connection.objects.order_by("account_id", "provider")]


def _told(connection: Connection, orders: dict[str, Any]) -> dict[str, Any]:
    token = connection.token
    names = ("provider", "account_id", "account_label", "owner", "client_id", "scopes", "status", "version")
    return {
        **{name: getattr(connection, name) for name in names},
        "pk": str(connection.pk),
        "user": connection.user_id,
        "variables": connection.variables,
        "expires_at": token.expires_at and token.expires_at.timestamp(),
        "due": connection.refresh_at is not None,
        "holds": [token.access_token, token.refresh_token] == orders.get("tokens"),
        "in_the_row": any(part in connection.sealed_token.ciphertext for part in orders.get("tokens", ["-"])),
        "history": [one.detail for one in _history(connection)],
    }


def _history(connection: Connection) -> Any:
    events = apps.get_model("oauth_connect.ConnectionEvent").objects
    return events.filter(connection_id=connection.pk).order_by("pk")


def stored_tokens(orders: dict[str, Any]) -> dict[str, Any]:
    """For the test alone, by a pipe: what the package has stored, so that it can be looked for."""
    if apps.is_installed("social_django"):
        row = apps.get_model("social_django.UserSocialAuth")._default_manager.get()
        found = [row.extra_data["access_token"], row.extra_data["refresh_token"]]
    else:
        token = apps.get_model("socialaccount.SocialToken")._default_manager.get()
        found = [token.token, token.token_secret]
    return {"tokens": found}


def call(orders: dict[str, Any]) -> dict[str, Any]:
    """Call the API through the connection, after a refresh."""
    connection = Connection.objects.get(provider="codeyard")
    connection.refresh()
    answer = connection.session().get("user", timeout=10)
    connection.refresh_from_db()
    return {
        "status": answer.status_code,
        "login": answer.json()["login"],
        "version": connection.version,
        "scopes": connection.scopes,
    }


STEPS = {step.__name__: step for step in (sign_in, write, tell, stored_tokens, call)}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(STEPS[sys.argv[1]](json.loads(sys.stdin.read()))))
