"""A site whose users have numbers as keys: ``python -m tests.models.lifecycle.integer_site DATABASE``.

Stores rows whose owner and user agree, and rows whose do not. Prints the accounts that are found as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings


def main(database: str) -> None:
    settings.configure(
        SECRET_KEY="of a test",
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth_connect"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH_CONNECT={"KEYS": ["A" * 43 + "="]},
    )
    django.setup()
    print(json.dumps(found()))


def refused(call: Callable[[], object]) -> str:
    try:
        return str(call())
    except Exception as error:
        return type(error).__name__


def found() -> dict[str, Any]:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from oauth_connect.models import Connection, Owner
    from oauth_connect.models.lifecycle import ownership
    from oauth_connect.models.row import identity_of, rows_of

    call_command("migrate", verbosity=0)
    ada, bob = (get_user_model().objects.create_user(name) for name in ("ada", "bob"))
    rows = [
        ("right", f"user:{ada.pk}", ada.pk),
        ("organisation", "org:1", None),
        ("a name", "user:ada", None),
        ("of another", f"user:{ada.pk}", bob.pk),
        ("without user", f"user:{bob.pk}", None),
        ("with a zero", f"user:0{ada.pk}", ada.pk),
        ("organisation with user", "org:2", ada.pk),
    ]
    for account_id, owner, user_id in rows:
        identity = identity_of(owner, "acme", account_id)
        row = Connection(
            owner=owner, user_id=user_id, provider="acme", account_id=account_id, identity=identity
        )
        rows_of(Connection, "default").bulk_create([row])
    mismatched = [row.pk for row in ownership.mismatched(Connection, "default")]
    accounts = Connection.objects.filter(pk__in=mismatched).values_list("account_id", flat=True)
    before = sorted(accounts)
    call_command("oauth_repair_owners", verbosity=0)
    return {
        "mismatched": before,
        "after": [str(row.pk) for row in ownership.mismatched(Connection, "default")],
        "of ada": sorted(Connection.objects.for_owner(ada).values_list("account_id", flat=True)),
        "one key": Owner("user:01").key == Owner.of(ada).key,
        "too large": refused(lambda: Connection.objects.for_owner(f"user:{'9' * 30}").exists()),
    }


if __name__ == "__main__":
    main(sys.argv[1])
