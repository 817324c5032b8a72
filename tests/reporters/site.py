"""A site with Sentry: ``python -m tests.reporters.site FOLDER``. Prints what its reporters show, as JSON.

It runs in a process of its own, because Sentry patches the libraries of the process.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import secrets
import sys
from typing import Any

import django
from django.conf import settings

CANARY = f"cAnArY{secrets.token_hex(6)}"
KEY = base64.urlsafe_b64encode(CANARY.encode().ljust(32, b".")).decode()
OTHER_KEY = base64.urlsafe_b64encode(f"{CANARY}-other".encode().ljust(32, b".")).decode()


def configure(folder: str) -> None:
    settings.configure(
        SECRET_KEY="of a test",
        ADMINS=["admin@app.example"] if django.VERSION >= (6, 0) else [("a", "admin@app.example")],
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        ROOT_URLCONF="tests.reporters.site_urls",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{folder}/reporters.sqlite3",
                "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
            }
        },
        INSTALLED_APPS=[
            *(f"django.contrib.{app}" for app in ("auth", "contenttypes", "sessions", "messages")),
            "oauth_connect",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH_CONNECT={"KEYS": [KEY], "BASE_URL": "https://app.example", "PROVIDERS": {}},
    )
    django.setup()


def main(folder: str, mode: str) -> None:
    faulthandler.dump_traceback_later(1500, exit=True)
    configure(folder)
    from django.core.management import call_command

    from tests.reporters import cases, reports, sweep

    call_command("migrate", verbosity=0)
    reports.begin()
    run: Any = cases.run_all if mode == "cases" else sweep.run_all
    print(json.dumps(run()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
