"""Reporters that serialise frames show no secret: Sentry as it comes, Django's page and its error mail."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name, walk_packages
from typing import Any

import pytest

import oauth_connect
from oauth_connect import tracebacks
from oauth_connect.models import Connection
from tests.project.public_api import MODEL_METHODS, MODULES, public_names

pytestmark = [pytest.mark.process, pytest.mark.once, pytest.mark.compliance("D45")]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(oauth_connect.__file__).parent
TEST_KIT = "testing"  # runs in tests only, and its tokens are fake
# These leave the package in no case: the function that calls them handles them, or Django or argparse does.
INTERNAL = {
    "AddressRefused": "discovery and exchange turn it into ProviderMisconfigured",
    "BodyTooLarge": "the same",
    "CertificatesMissing": "exchange and discovery turn it into ProviderUnavailable",
    "FileMissing": "a CA bundle or a client certificate is missing; knows no token",
    "HandshakeFailed": "the same",
    "PortUnavailable": "BrowserLogin turns it into ImproperlyConfigured",
    "_NoAddress": "loopback skips the address, or raises PortUnavailable",
    "CannotImport": "TokenImport turns it into an outcome",
    "CallError": "a base class",
    "InvalidBody": "the JSON API answers it",
    "_NotWritten": "history logs it, and stores the row without its entry",
    "MayNotManage": "the page for a user who may not manage the accounts",
    "OAuthConnectError": "a base class",
    "ProtocolError": "a base class",
    "UnknownConnection": "Django answers it with 404",
}
# Functions that raise an error and are run by no case.
NOT_RUN = {
    **dict.fromkeys(
        (
            "protocol/httpx.py:__reduce__",
            "protocol/provider.py:__reduce__",
            "protocol/session.py:__reduce__",
            "protocol/token.py:__reduce__",
        ),
        "raises where something is pickled",
    ),
    "contrib/importers/allauth.py:__init__": "raises where the package is not installed",
    "contrib/importers/social_auth.py:__init__": "raises where the package is not installed",
    "engine/refresh.py:_wait": "another process refreshes; its locals are rows",
    "flows/choice.py:choose": "a connection of another owner; its locals are rows",
    "flows/disconnect.py:owned": "a connection of another owner; its locals are rows",
    "flows/storage.py:store_connection": "the user was deactivated during the flow; its callers are run",
    "management/base.py:integer": "an option of a command",
    "management/commands/oauth_import.py:renamed": "an option of a command",
    "management/commands/oauth_login.py:_choose_site": "an option of a command, and names of sites",
    "management/commands/oauth_login.py:assignment": "an option of a command",
    "management/commands/oauth_login.py:port_number": "an option of a command",
    "models/connection.py:clean": "a new row in a form, which has no token",
    "models/fields.py:get_prep_lookup": "a search for a sealed value",
    "models/row.py:has_scopes": "a wrong argument; its locals are names of scopes",
    "models/lifecycle/history.py:_its_own_error": "an entry of the history, which has no token",
    "models/lifecycle/connect.py:_renew": "other writers; its locals are rows and tokens, as in _overwrite",
    **dict.fromkeys(
        (
            "presets/__init__.py:_load_entry_point",
            "presets/__init__.py:_read_file",
            "presets/__init__.py:about",
            "presets/about.py:__post_init__",
            "presets/about.py:check_date",
            "presets/about.py:check_https",
            "presets/lint.py:_about",
            "presets/lint.py:_check_environment",
        ),
        "a preset, which holds no client",
    ),
    "protocol/definition.py:_integer": "as _string and _boolean, which are run",
    "protocol/exchange.py:probe": "sends no credentials",
    "protocol/httpx.py:permitted_addresses": "addresses of a host",
    "protocol/net/transport.py:_tunnel": "exchange turns it into ProviderUnavailable",
    "protocol/net/contexts.py:_version": "a CA bundle or a client certificate is missing; knows no token",
    "stores/lock_timeouts.py:as_postgresql": "another database",
    "stores/row.py:_is_uncommitted": "another database",
    "stores/transactions.py:own_connection": "no connection is free; knows no token",
    **dict.fromkeys(
        ("views/body.py:_document", "views/body.py:_text", "views/body.py:_variables"),
        "the body of a request to the JSON API, which holds no secret",
    ),
    "views/choose.py:post": "another owner's connection (404)",
    "views/site.py:connection": "another owner's connection, or one without sites (404)",
    "views/site.py:dispatch": "a site without our URLs (404)",
    "views/disconnecting.py:with_own": "another owner's connection (404)",
    "views/required.py:connection_required": "a view in place of the name of a provider",
}
# Public functions whose errors keep the locals.
NOT_GUARDED = {
    "crypto.new_key": "raises nothing",
    "errors.printable_line": "no secret",
    "models.history.of": "no secret",
    "models.history.record": "no secret",
    "models.history.write": "no secret",
    "redaction.hidden": "raises nothing of its own",
    "redaction.install": "no secret",
    "redaction.never_mask": "no secret",
    "redaction.redacted": "raises nothing",
    "redaction.redacted_value": "raises nothing",
    "views.connection_required": "runs the site's own view, whose locals belong to the site",
}
CLASSES = (
    "conf.settings.Settings",
    "contrib.httpx.ConnectionAuth",
    "contrib.importers.allauth.Tokens",
    "contrib.importers.social_auth.Tokens",
    "flows.terminal.BrowserLogin",
    "flows.terminal.DeviceLogin",
    "jobs.import_tokens.TokenImport",
    "models.lifecycle.access.ConnectionSource",
    "protocol.client.AuthorizationServer",
    "protocol.metadata.discovery.GuardedProvider",
    "protocol.provider.Provider",
    "protocol.session.ApiSession",
    "protocol.session.TokenAuth",
    "conf.providers.Conf",
    "stores.keyring.KeyringStore",
    "stores.keyring.session.KeyringSource",
)


def run(folder: Path, mode: str) -> Any:
    command = [sys.executable, "-m", "tests.reporters.site", str(folder), mode]
    # Not measured: it traces the package itself, and would take half as long again.
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run(
        command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=1600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a site's reporters show of an error of each kind, at each entrance of the package."""
    return run(tmp_path_factory.mktemp("site"), "cases")


def test_no_report_of_any_error_shows_a_secret(site):
    cases = site["cases"]
    assert sum(case["reports"] for case in cases.values()) > 1000
    assert {name: case["message"] for name, case in cases.items() if "AssertionError" in case["error"]} == {}
    assert {name: case["leaks"] for name, case in cases.items() if case["leaks"]} == {}


def test_each_class_of_error_is_reported_by_a_case(site):
    """A new class needs a case in cases.py."""
    reported = {case["error"][0] for case in site["cases"].values() if case["error"]}
    assert set(error_classes()) - reported == set(INTERNAL)


def test_each_function_that_raises_is_run_by_a_case(site):
    """A new error in a function that no case runs needs a case in cases.py."""
    ran = set(site["functions"])
    assert {name for name, place in raising_functions() if place not in ran} == set(NOT_RUN)


def test_an_error_of_this_package_has_no_context(site):
    cases = site["cases"].items()
    found = {name: case["behind"] for name, case in cases if "OAuthConnectError" in case["error"]}
    assert len(found) > 200
    assert set(found.values()) == {None}


@pytest.mark.slow
def test_no_report_of_an_unexpected_error_shows_a_secret(tmp_path):
    """It is raised at each place where a secret is a local of this package or of a library below it."""
    runs = run(tmp_path, "sweep")
    places = {f"{name}: {place}": found for name, swept in runs.items() for place, found in swept.items()}
    assert len(places) > 1000
    assert sum(found["reports"] > 0 for found in places.values()) > len(places) / 2
    assert {name: found["leaks"] for name, found in places.items() if found["leaks"]} == {}


# --- what is decorated ----------------------------------------------------------------------------


def test_each_public_function_leaves_no_locals():
    assert {name for name, function in public_functions() if not is_guarded(function)} == set(NOT_GUARDED)


@pytest.mark.parametrize("name", CLASSES)
def test_each_method_of_a_class_leaves_no_locals(name):
    kind: Any = resolve_name(f"oauth_connect.{name.rpartition('.')[0]}:{name.rpartition('.')[2]}")
    left = {method for method, function in methods(kind) if not is_guarded(function)}
    assert left <= {"async_auth_flow"}  # an async generator; its locals are tokens, which show nothing


def test_each_method_of_a_connection_leaves_no_locals():
    left_out = {"has_scopes"}
    assert {name for name in MODEL_METHODS if not is_guarded(getattr(Connection, name))} == left_out
    for name in ("token", "get_provider", "get_declared_provider"):
        value = inspect.getattr_static(Connection, name)
        assert is_guarded(value.fget if isinstance(value, property) else value), name
    for name in ("store", "update", "bulk_create", "bulk_update"):
        assert is_guarded(getattr(type(Connection.objects), name)), name


def is_guarded(function: Any) -> bool:
    return function.__code__.co_filename == tracebacks.__file__


def public_functions() -> Iterator[tuple[str, Any]]:
    for module_name in (*MODULES, "crypto"):
        module = resolve_name(f"oauth_connect.{module_name}")
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{module_name}.{name}", value
    yield "protocol.device.await_token", resolve_name("oauth_connect.protocol.device.await_token")


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(kind).items():
        if not name.startswith("_"):
            if isinstance(value, property):
                yield name, value.fget
            elif isinstance(value, classmethod) or inspect.isfunction(value):
                yield name, getattr(value, "__func__", value)


# --- the errors of the package --------------------------------------------------------------------


def error_classes() -> Iterator[str]:
    for module in walk_packages([str(PACKAGE)], "oauth_connect."):
        if not {"migrations", TEST_KIT} & {*module.name.split(".")}:
            for name, value in vars(resolve_name(module.name)).items():
                if (
                    inspect.isclass(value)
                    and issubclass(value, Exception)
                    and value.__module__ == module.name
                ):
                    yield name


def raising_functions() -> Iterator[tuple[str, str]]:
    """Yield the name of each function that raises, and its file and first line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / TEST_KIT):
            continue
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and raises(function):
                first = min(function.lineno, *(one.lineno for one in function.decorator_list or [function]))
                file = path.relative_to(PACKAGE).as_posix()
                yield f"{file}:{function.name}", f"{file}:{first}"


def raises(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function raises an error itself, not only in a function inside of it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return False
