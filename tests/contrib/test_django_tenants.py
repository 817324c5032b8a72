"""django-tenants: a schema for each tenant, and a tenant that was cloned from another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database

from tests.contrib.tenants_site import TENANTS
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.databases import run_name
from tests.support.tokens import tokens

pytestmark = [pytest.mark.vendor("postgresql"), pytest.mark.process]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """The authorization server. It answers the first request when the second one is there."""
    server = ScriptedServer()
    together = Answer(body=tokens("answer-0"), until=lambda: server.wait_for("/token", 2))
    server.on("/token", together, *[Answer(body=tokens(f"answer-{number}")) for number in range(1, 9)])
    yield server
    server.close()


@pytest.fixture(scope="module")
def site(server: ScriptedServer, django_db_setup: None, django_db_blocker: Any) -> dict[str, Any]:
    """What the site did, in a process and a database of its own."""
    pytest.importorskip("django_tenants")
    name = f"test_{run_name()}_tenants"
    options = ("HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
    settings = {"NAME": name, **{option: database.settings_dict[option] for option in options}}
    with django_db_blocker.unblock():
        with database._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        try:
            command = [sys.executable, "-m", "tests.contrib.tenants_site", json.dumps(settings), server.url]
            finished = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
            )
        finally:
            with database._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.fixture
def issued(site: dict[str, Any], server: ScriptedServer) -> dict[str, str]:
    """The access token that was issued for each refresh token."""
    sent = [request.form["refresh_token"] for request in server.asked("/token")]
    return {token: f"access-answer-{number}" for number, token in enumerate(sent)}


def test_the_clone_has_a_row_of_the_same_primary_key(site):
    assert site["keys"]["acme"] == site["keys"]["umbrella"]


def test_each_refresh_token_was_sent_once(issued):
    sent = ["refresh-acme-0", "refresh-acme-2", "refresh-umbrella-0", "refresh-umbrella-2"]
    assert sorted(issued) == sent


def test_async_views_of_two_tenants_at_the_same_time_get_each_its_own_token(site, issued):
    own = {tenant: issued[f"refresh-{tenant}-0"] for tenant in TENANTS}
    assert site["requests"] == {"responses": own, "stored": own}


def test_tenant_command_refreshes_the_tenant_and_no_other(site, issued):
    assert site["command"]["stored"] == {
        "acme": issued["refresh-acme-2"],
        "umbrella": "access-umbrella-2",
    }


def test_a_celery_task_refreshes_the_tenant_that_it_enters(site, issued):
    assert site["task"]["result"] == {"refreshed": 1}
    assert site["task"]["stored"] == {
        "acme": issued["refresh-acme-2"],
        "umbrella": issued["refresh-umbrella-2"],
    }


def test_a_command_in_the_public_schema_says_that_the_table_is_missing(site):
    assert "oauth_connect_connection" in site["no tenant"]["error"]
    assert "tenant_command" in site["no tenant"]["error"]
