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
# The API is the token server, or the same server behind TLS.
API = os.environ.get("OAUTH_CONNECT_BENCHMARK_API") or AUTHORITY
OAUTH_CONNECT = {
    "BASE_URL": "http://127.0.0.1:8000",
    "KEYS": [base64.urlsafe_b64encode(b"for the benchmark only".ljust(32, b".")).decode()],
    "PROVIDERS": {
        "bench": {
            "client_id": "benchmark",
            "client_secret": "secret",
            "authorization_endpoint": f"{AUTHORITY}/authorize",
            "token_endpoint": f"{AUTHORITY}/token",
            "userinfo_endpoint": f"{AUTHORITY}/user",
            "api_base_url": f"{API}/",
        }
    },
}
