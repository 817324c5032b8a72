"""Which package, its database and Codeyard's entry come from the environment."""

from __future__ import annotations

import base64
import json
import os

ORDERS = json.loads(os.environ["OAUTH_CONNECT_TEST_SITE"])
PACKAGE = ORDERS["package"]
CODEYARD = ORDERS["codeyard"]

SECRET_KEY = "of the other site"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["app.example"]
ROOT_URLCONF = f"tests.contrib.importers.other_site.{PACKAGE}_urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ORDERS["database"]}}

APPS = {
    "allauth": [
        "allauth",
        "allauth.account",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.google",
        "allauth.socialaccount.providers.twitter",
        "tests.contrib.importers.other_site.allauth_codeyard",
    ],
    "social_auth": ["social_django"],
    "none": [],
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "oauth_connect",
    *APPS[PACKAGE],
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    *(["allauth.account.middleware.AccountMiddleware"] if PACKAGE == "allauth" else []),
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
LOGIN_REDIRECT_URL = "/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

OAUTH_CONNECT = {
    "KEYS": [base64.urlsafe_b64encode(b"of the other site".ljust(32, b".")).decode()],
    "BASE_URL": "https://app.example",
    "PROVIDERS": ORDERS["providers"],
}

SOCIALACCOUNT_STORE_TOKENS = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_LOGIN_ON_GET = True
ACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_PROVIDERS = {
    "codeyard": {
        "APPS": [{"client_id": CODEYARD["client_id"], "secret": CODEYARD["client_secret"]}],
        "SCOPE": CODEYARD["scopes"],
        "OAUTH_PKCE_ENABLED": True,
    },
    "google": {"APPS": [{"client_id": "google client", "secret": "google secret"}]},
}

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "tests.contrib.importers.other_site.social_backend.Codeyard",
    "social_core.backends.google.GoogleOAuth2",
]
if PACKAGE != "social_auth":
    del AUTHENTICATION_BACKENDS[1:]
SOCIAL_AUTH_CODEYARD_KEY = CODEYARD["client_id"]
SOCIAL_AUTH_CODEYARD_SECRET = CODEYARD["client_secret"]
SOCIAL_AUTH_CODEYARD_SCOPE = CODEYARD["scopes"]
SOCIAL_AUTH_GOOGLE_OAUTH2_KEY = "google client"
SOCIAL_AUTH_GOOGLE_OAUTH2_SECRET = "google secret"

# What a test changes.
globals().update(ORDERS["changes"])
