"""The public API, one line for each name. ``python -m tests.project.public_api`` prints it.

``tests/project/public_api.txt`` has the same lines, so that the public API changes only on purpose.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

MODULES = (
    "contrib.httpx",
    "errors",
    "flows",
    "jobs.refresh",
    "middleware",
    "models",
    "models.history",
    "protocol.client",
    "protocol.httpx",
    "protocol.provider",
    "protocol.quirks",
    "protocol.session",
    "protocol.token",
    "redaction",
    "signals",
    "stores.keyring",
    "tasks",
    "testing",
    "testing.errors",
    "views",
)
FUNCTIONS = ("protocol.device.await_token",)
MODEL_METHODS = (
    "access_token",
    "aaccess_token",
    "arefresh",
    "disconnect",
    "has_scopes",
    "refresh",
    "session",
)


def surface() -> Iterator[str]:
    for module_name in MODULES:
        module = resolve_name(f"oauth_connect.{module_name}")
        for name in public_names(module):
            yield from described(f"{module_name}.{name}", getattr(module, name))
    for name in FUNCTIONS:
        yield from described(name, resolve_name(f"oauth_connect.{name}"))
    yield from models()
    yield from test_kit()
    yield from settings()
    yield from urls()


def public_names(module: Any) -> list[str]:
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", module.__name__) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]
    if ".protocol." in module.__name__:
        own = [name for name in own if inspect.isclass(getattr(module, name))]
    if module.__name__.endswith("signals"):
        own = [name for name in vars(module) if name.islower() and not name.startswith("_")]
    return sorted(getattr(module, "__all__", own))


def described(path: str, value: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        # The repr of a default that is a function has an address.
        yield re.sub(r" at 0x[0-9a-f]+", "", f"{path}{inspect.signature(value)}")
    elif dataclasses.is_dataclass(value):
        yield f"{path}: {', '.join(field.name for field in dataclasses.fields(value))}"
    elif inspect.isclass(value):
        yield f"{path}({', '.join(base.__name__ for base in value.__bases__)})"
    else:
        yield path


def models() -> Iterator[str]:
    from oauth_connect.models import Connection

    fields = sorted(field.name for field in Connection._meta.get_fields())
    yield f"Connection fields: {', '.join(fields)}"
    for name in MODEL_METHODS:
        yield f"Connection.{name}{inspect.signature(getattr(Connection, name))}"
    for name in ("for_owner", "due", "store"):
        yield f"Connection.objects.{name}{inspect.signature(getattr(Connection.objects, name))}"


def test_kit() -> Iterator[str]:
    from oauth_connect.testing import FakeProvider, FakeProviderMixin

    for kind in (FakeProvider, FakeProviderMixin):
        for name, value in vars(kind).items():
            if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_")):
                yield f"testing.{kind.__name__}.{name}{inspect.signature(value)}"


def settings() -> Iterator[str]:
    from oauth_connect.conf import KNOWN

    yield f"OAUTH_CONNECT: {', '.join(sorted(KNOWN))}"


def urls() -> Iterator[str]:
    from oauth_connect.urls import app_name, urlpatterns

    for pattern in urlpatterns:
        yield f"{app_name}:{pattern.name} {pattern.pattern}"


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    print("\n".join(surface()))
