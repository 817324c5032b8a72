"""A site on SQLite in memory, as `manage.py test` has it: ``python -m tests.faults.memory_site URL``.

Refreshes a connection in a transaction, several times, and writes after each. Prints what failed as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import django
from django.conf import settings

RUNS = 30
SHARED = "file:memory_site?mode=memory&cache=shared"  # as Django's test runner names it
EXPIRED = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600}


def main(url: str) -> None:
    provider = {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "identity": {"source": "none"},
    }
    settings.configure(
        SECRET_KEY="of a test",
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": SHARED}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth_connect"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH_CONNECT={"KEYS": ["A" * 43 + "="], "PROVIDERS": {"acme": provider}},
    )
    django.setup()
    print(json.dumps({"failed": [*refreshes()], "threads": threading.active_count()}))


def refreshes():
    from django.core.management import call_command
    from django.db import OperationalError, transaction

    from oauth_connect.models import Connection

    call_command("migrate", verbosity=0)
    Connection.objects.store(
        owner="org:1",
        provider="acme",
        token_response=EXPIRED,
        obtained_at=datetime.now(UTC) - timedelta(hours=2),
    )
    for number in range(RUNS):
        try:
            with transaction.atomic():
                Connection.objects.get().refresh()
                transaction.set_rollback(number % 2 == 1)
            Connection.objects.update(extra={"number": number})
        except OperationalError as error:
            yield str(error)
    call_command("flush", interactive=False, verbosity=0)


if __name__ == "__main__":
    main(sys.argv[1])
