"""The app in projects of many kinds, each in a process of its own in which a warning is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects.rows import ROWS
from tests.projects.walk import ANSWER
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import FRESH, tokens

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def provider(scripted: ScriptedServer) -> ScriptedServer:
    scripted.on("/token", Answer(body=tokens("0")), Answer(body=FRESH))
    scripted.on("/userinfo", Answer(body={"id": "1", "login": "octo"}))
    scripted.on("/api/repositories", Answer(body=ANSWER))
    scripted.on("/revoke", Answer())
    return scripted


@pytest.mark.parametrize("row", ROWS)
def test_a_user_connects_calls_and_disconnects(row: str, provider: ScriptedServer, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.projects", row, str(tmp_path), provider.url]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    sent = [request.form.get("grant_type") for request in provider.asked("/token")]
    assert sent == ["authorization_code", "refresh_token"]
    assert [request.form["token"] for request in provider.asked("/revoke")] == [FRESH["refresh_token"]]
