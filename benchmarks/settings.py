"""A site with one provider, the benchmark's own server; the database as for the tests."""

import base64
import os

from tests.support import databases

SECRET_KEY = "only for the benchmark"
DEBUG = False
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "oauth_connect",
    "benchmarks.reference",
]
DATABASES = {"default": databases.configured()["default"]}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTHORITY = f"http://127.0.0.1:{os.environ.get('OAUTH_CONNECT_BENCHMARK_PORT', '0')}"
OAUTH_CONNECT = {
    "KEYS": [base64.urlsafe_b64encode(b"for the benchmark only".ljust(32, b".")).decode()],
    "PROVIDERS": {
        "bench": {
            "client_id": "benchmark",
            "client_secret": "secret",
            "authorization_endpoint": f"{AUTHORITY}/authorize",
            "token_endpoint": f"{AUTHORITY}/token",
            "api_base_url": f"{AUTHORITY}/",
        }
    },
}
