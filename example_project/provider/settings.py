"""Settings of Codeyard. `__main__` passes its options in environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

HERE = Path(__file__).resolve().parent
URL = os.environ.get("CODEYARD_URL", "http://127.0.0.1:8001")

# A random key ends all sessions with the process, which is enough for a demo.
SECRET_KEY = get_random_secret_key()
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "example_project.provider",  # first: its templates replace the toolkit's
    "oauth2_provider",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "example_project.provider.counters.CountingMiddleware",
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
ROOT_URLCONF = os.environ.get("CODEYARD_URLCONF", "example_project.provider.urls")
STATIC_URL = "static/"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CODEYARD_DATABASE", "codeyard.sqlite3"),
        "OPTIONS": {
            # Writers wait at BEGIN instead of failing later with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

# Browsers share cookies between ports. With Django's names, a sign-in here would end another site's session.
SESSION_COOKIE_NAME = "codeyard_session"
CSRF_COOKIE_NAME = "codeyard_csrf"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
PASSWORD_HASHERS = ["example_project.provider.hashers.DemoPasswordHasher"]

OAUTH2_PROVIDER = {
    "OIDC_ISS_ENDPOINT": f"{URL}/o",
    "SCOPES": {
        "profile": "See your name and login",
        "repositories": "See your repositories",
        "activity": "See what happened in your repositories",
        "analytics": "See figures about all of Codeyard",
    },
    "DEFAULT_SCOPES": ["profile"],
    "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("CODEYARD_TOKEN_LIFETIME", "300")),
    "ROTATE_REFRESH_TOKEN": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
    "PKCE_REQUIRED": True,
    "OAUTH2_RESPONSE_TYPES_SUPPORTED": ["code"],
    "OAUTH2_GRANT_TYPES_SUPPORTED": [
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "OAUTH_DEVICE_VERIFICATION_URI": f"{URL}/o/device/",
    "OAUTH_DEVICE_VERIFICATION_URI_COMPLETE": lambda code: f"{URL}/o/device/?user_code={code}",
    "DEVICE_FLOW_INTERVAL": int(os.environ.get("CODEYARD_DEVICE_INTERVAL", "5")),
    "OAUTH2_PROTECTED_RESOURCE_IDENTIFIER": f"{URL}/api/",
    "OAUTH2_PROTECTED_RESOURCE_NAME": "Codeyard",
    # RFC 9700, the security best current practice, in full.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING"},
        # Refused requests are normal here. They are counted and not logged.
        "django.server": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
    },
}
