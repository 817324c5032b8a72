"""The settings of each project. A row differs from the common settings in one thing."""

from __future__ import annotations

import base64
from typing import Any

import django
from django.http import HttpRequest, HttpResponse

CONTENT_SECURITY_POLICY = "default-src 'self'; form-action 'self'; frame-ancestors 'none'"
KEY = base64.urlsafe_b64encode(b"of a project in the tests".ljust(32, b".")).decode()
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    SESSIONS,
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    AUTHENTICATION,
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
APPS = [
    *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
    "django.contrib.staticfiles",
    "oauth_connect",
]
CONTEXT_PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]


def common(folder: str, provider: dict[str, Any]) -> dict[str, Any]:
    return {
        "SECRET_KEY": "of a project in the tests",
        "ALLOWED_HOSTS": ["app.example"],
        "USE_TZ": True,
        "ROOT_URLCONF": "tests.projects.urls.plain",
        "STATIC_URL": "static/",
        "LOGIN_URL": "login",
        "SESSION_FILE_PATH": folder,
        "LOGGING": {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"none": {"class": "logging.NullHandler"}},
            "root": {"handlers": ["none"]},
        },
        "INSTALLED_APPS": APPS,
        "MIDDLEWARE": MIDDLEWARE,
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": CONTEXT_PROCESSORS},
            }
        ],
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{folder}/project.sqlite3",
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=OFF;"},
            }
        },
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "OAUTH_CONNECT": {
            "KEYS": [KEY],
            "BASE_URL": "https://app.example",
            "PROVIDERS": {"inhouse": provider},
        },
    }


def after(name: str, *more: str) -> list[str]:
    """Return the middleware with more of it, after the one of this name."""
    index = MIDDLEWARE.index(name) + 1
    return [*MIDDLEWARE[:index], *more, *MIDDLEWARE[index:]]


def header_policy(get_response: Any) -> Any:
    """Send the policy of before Django 6.0, which has a middleware for it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return middleware


def policy() -> dict[str, Any]:
    if django.VERSION < (6, 0):
        return {"MIDDLEWARE": [*MIDDLEWARE, "tests.projects.rows.header_policy"]}
    directives = (one.split() for one in CONTENT_SECURITY_POLICY.split(";"))
    return {
        "MIDDLEWARE": [*MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"],
        "SECURE_CSP": {name: sources for name, *sources in directives},
    }


# The path under which a web server serves the project.
MOUNTS = {"sub-path": "/app", "forced-sub-path": "/app"}
ROWS: dict[str, dict[str, Any]] = {
    "auto-field": {"DEFAULT_AUTO_FIELD": "django.db.models.AutoField"},
    "user-with-uuid-and-email": {
        "INSTALLED_APPS": [*APPS, "tests.projects.people"],
        "AUTH_USER_MODEL": "people.Person",
    },
    "login-required": {
        "MIDDLEWARE": after(AUTHENTICATION, "django.contrib.auth.middleware.LoginRequiredMiddleware")
    },
    "languages": {
        "ROOT_URLCONF": "tests.projects.urls.languages",
        "LANGUAGE_CODE": "en",
        "LANGUAGES": [("en", "English"), ("de", "German")],
        "MIDDLEWARE": after(SESSIONS, "django.middleware.locale.LocaleMiddleware"),
    },
    "sub-path": {},
    "forced-sub-path": {"FORCE_SCRIPT_NAME": "/app"},
    "content-security-policy": policy(),
    "rest-framework": {
        "INSTALLED_APPS": [*APPS, "rest_framework"],
        "ROOT_URLCONF": "tests.projects.urls.rest",
    },
    "cookie-sessions": {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
    "file-sessions": {"SESSION_ENGINE": "django.contrib.sessions.backends.file"},
}
