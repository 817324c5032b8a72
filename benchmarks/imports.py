"""What a process pays for a package before its first request: processor time, modules, memory.

A new process sets Django up with the package's apps and imports what a site imports of it. Django alone, with
the apps that all of them need, is the base.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from benchmarks.meter import peak_resident

ROOT = Path(__file__).resolve().parents[1]
BASE = "Django alone"
DJANGO = (
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
)
ALLAUTH = ("allauth", "allauth.account", "allauth.socialaccount")
# By name: the apps, and the modules that a site imports.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    BASE: ((), ("django.urls",)),
    "oauth_connect, set up": (("oauth_connect",), ()),
    "oauth_connect, with its pages": (("oauth_connect",), ("oauth_connect.urls",)),
    "requests": ((), ("requests",)),
    "requests-oauthlib": ((), ("requests_oauthlib",)),
    "Authlib": ((), ("authlib.integrations.django_client", "authlib.integrations.requests_client")),
    "requests_oauth2client": ((), ("requests_oauth2client",)),
    "django-allauth": (ALLAUTH, ("allauth.socialaccount.providers.oauth2.views",)),
    "social-auth-app-django": (("social_django",), ("social_django.urls", "social_core.backends.oauth")),
    "django-esi": (("esi",), ("esi.decorators",)),
}


def measure(*, rounds: int) -> dict[str, Any]:
    """Each case once a round. A first run may have to compile bytecode; the median leaves it out."""
    names = [name for name in CASES if is_installed(name)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(in_new_process(name))
    return {"runs": found, "absent": sorted(CASES.keys() - set(names))}


def is_installed(name: str) -> bool:
    apps, modules = CASES[name]
    return all(find_spec(module.partition(".")[0]) is not None for module in (*apps, *modules))


def in_new_process(name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.imports", name]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout))


def cost(name: str) -> dict[str, float]:
    """Seconds of the processor, modules and MiB that setting up and importing takes, in this process."""
    apps, modules = CASES[name]
    memory, loaded, processor = peak_resident(), len(sys.modules), time.process_time()
    settings.configure(
        INSTALLED_APPS=[*DJANGO, *apps],
        SECRET_KEY="only for the benchmark",
        ESI_USER_CONTACT_EMAIL="ada@example.com",
        MIDDLEWARE=["allauth.account.middleware.AccountMiddleware"],
    )
    django.setup()
    for module in modules:
        import_module(module)
    return {
        "processor": time.process_time() - processor,
        "modules": len(sys.modules) - loaded,
        "memory": peak_resident() - memory,
    }


if __name__ == "__main__":
    print(json.dumps(cost(sys.argv[1])))
