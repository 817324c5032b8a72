"""The site of the benchmark, with the other packages that are installed."""

from benchmarks.others import PACKAGES
from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import AUTHORITY, INSTALLED_APPS

INSTALLED = {package.module: package for package in PACKAGES if package.is_installed}
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django.contrib.sessions",
    "django.contrib.messages",
    *(app for package in INSTALLED.values() for app in package.apps),
    "benchmarks.others",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "benchmarks.others.urls"
LOGIN_REDIRECT_URL = "/connected"
CLIENT_ID, CLIENT_SECRET = "benchmark", "secret"

if "authlib" in INSTALLED:
    AUTHLIB_OAUTH_CLIENTS = {
        "bench": {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "access_token_url": f"{AUTHORITY}/token",
            "authorize_url": f"{AUTHORITY}/authorize",
            "api_base_url": AUTHORITY,
        }
    }
if "allauth" in INSTALLED:
    MIDDLEWARE.append("allauth.account.middleware.AccountMiddleware")
    AUTHENTICATION_BACKENDS.append("allauth.account.auth_backends.AuthenticationBackend")
    SOCIALACCOUNT_STORE_TOKENS = True
    SOCIALACCOUNT_LOGIN_ON_GET = True
    SOCIALACCOUNT_EMAIL_VERIFICATION = ACCOUNT_EMAIL_VERIFICATION = "none"
    SOCIALACCOUNT_PROVIDERS = {
        "bench": {"APPS": [{"client_id": CLIENT_ID, "secret": CLIENT_SECRET, "key": ""}]}
    }
    ACCOUNT_RATE_LIMITS = False
if "social_django" in INSTALLED:
    AUTHENTICATION_BACKENDS.append("benchmarks.others.social_backend.BenchOAuth2")
    SOCIAL_AUTH_BENCH_KEY, SOCIAL_AUTH_BENCH_SECRET = CLIENT_ID, CLIENT_SECRET
    SOCIAL_AUTH_URL_NAMESPACE = "social"
if "esi" in INSTALLED:
    ESI_SSO_CLIENT_ID, ESI_SSO_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    ESI_SSO_CALLBACK_URL = "http://testserver/esi/callback"
    ESI_USER_CONTACT_EMAIL = "ada@example.com"
