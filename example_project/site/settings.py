"""Settings of Desk, read from the environment.

Under DEBUG (the default here) each has a default that fits `python -m example_project.provider` without
arguments. With SITE_DEBUG=0 all must be set.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from example_project.site.keys import KeyFile

ROOT = Path(__file__).resolve().parent.parent.parent
DEBUG = os.environ.get("SITE_DEBUG", "1") != "0"


def setting(name: str, for_development: str) -> str:
    value = os.environ.get(name) or (for_development if DEBUG else "")
    if not value:
        raise ImproperlyConfigured(f"Set the environment variable {name} (or SITE_DEBUG=1).")
    return value


SECRET_KEY = setting("SECRET_KEY", "only-for-development-and-the-demo-0123456789-abcdefghij")
SITE_BASE_URL = setting("SITE_BASE_URL", "http://127.0.0.1:8000")
CODEYARD_URL = setting("CODEYARD_URL", "http://127.0.0.1:8001")
# Only one name, because the callback would not have the session of another name.
ALLOWED_HOSTS = [urlsplit(SITE_BASE_URL).hostname or ""]

INSTALLED_APPS = [
    "example_project.site",  # first: its templates replace the package's
    "oauth_connect",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "example_project.site.urls"
WSGI_APPLICATION = "example_project.site.wsgi.application"
STATIC_URL = "static/"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": setting("SITE_DATABASE", str(ROOT / "desk.sqlite3")),
        "OPTIONS": {
            # For several threads and processes: readers work during a write, and writers wait at BEGIN
            # instead of failing later with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

# Browsers share cookies between ports. With Django's names, Desk would share them with other sites here.
SESSION_COOKIE_NAME = "desk_session"
CSRF_COOKIE_NAME = "desk_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SITE_BASE_URL.startswith("https:")
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"

KEY_FILE = os.environ.get("OAUTH_CONNECT_KEY_FILE")

OAUTH_CONNECT = {
    "KEYS": KeyFile(KEY_FILE)
    if KEY_FILE
    else [setting("OAUTH_CONNECT_KEY", "b25seS1mb3ItZGV2ZWxvcG1lbnQtYW5kLXRoZS1kZW0=")],
    "BASE_URL": SITE_BASE_URL,
    "REFRESH_LEEWAY": int(setting("SITE_REFRESH_LEEWAY", "60")),
    "PROVIDERS": {
        "codeyard": {
            "name": "Codeyard",
            "client_id": setting("CODEYARD_CLIENT_ID", "desk"),
            "client_secret": setting("CODEYARD_CLIENT_SECRET", "desk-development-secret"),
            "issuer": f"{CODEYARD_URL}/o",
            "authorization_response_iss_parameter_supported": True,
            "authorization_endpoint": f"{CODEYARD_URL}/o/authorize/",
            "token_endpoint": f"{CODEYARD_URL}/o/token/",
            "revocation_endpoint": f"{CODEYARD_URL}/o/revoke_token/",
            "userinfo_endpoint": f"{CODEYARD_URL}/api/user",
            "api_base_url": f"{CODEYARD_URL}/api/",
            "scopes": ["profile", "repositories", "activity"],
            "identity": {"id": ["id"], "label": ["login"]},
        },
        # Desk's own client at Codeyard, for requests without a user (RFC 6749 section 4.4).
        "codeyard-reports": {
            "name": "Codeyard",
            "client_id": f"{setting('CODEYARD_CLIENT_ID', 'desk')}-reports",
            "client_secret": setting("CODEYARD_CLIENT_SECRET", "desk-development-secret"),
            "token_endpoint": f"{CODEYARD_URL}/o/token/",
            "revocation_endpoint": f"{CODEYARD_URL}/o/revoke_token/",
            "api_base_url": f"{CODEYARD_URL}/api/",
            "scopes": ["analytics"],
        },
        # For oauth_login at a terminal: a public client, which only has the device flow.
        "codeyard-terminal": {
            "name": "Codeyard at the terminal",
            "client_id": setting("CODEYARD_DEVICE_CLIENT_ID", "desk-terminal"),
            "device_authorization_endpoint": f"{CODEYARD_URL}/o/device-authorization/",
            "token_endpoint": f"{CODEYARD_URL}/o/token/",
            "revocation_endpoint": f"{CODEYARD_URL}/o/revoke_token/",
            "userinfo_endpoint": f"{CODEYARD_URL}/api/user",
            "api_base_url": f"{CODEYARD_URL}/api/",
            "scopes": ["profile", "repositories"],
            "identity": {"id": ["id"], "label": ["login"]},
        },
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # Without Django's own handlers, so that each record is logged once, by the root.
    "loggers": {"django": {"handlers": [], "level": "WARNING"}},
}
