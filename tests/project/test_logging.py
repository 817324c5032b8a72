"""Every log record has an ``action``. docs/logging.md has a row for each, with its level and fields."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from oauth_connect import redaction
from oauth_connect.engine.store import Action
from oauth_connect.models import ConnectionEvent

PACKAGE = Path(redaction.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
ENGINE_ACTION = "event.action"  # an action of the engine; it decides the level


@dataclass(frozen=True)
class Logged:
    action: str
    level: str
    fields: frozenset[str]
    place: str


def log_calls() -> Iterator[Logged]:
    """Yield each log record that the package's source can write."""
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                dicts = assigned(function)
                for call in calls(function):
                    yield read(call, dicts, f"{path.name}:{call.lineno}")


def calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    methods = {f"logger.{name}" for name in (*LEVELS, "log")}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in methods:
            yield node


def assigned(function: ast.FunctionDef) -> dict[str, ast.Dict]:
    return {
        ast.unparse(node.targets[0]): node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    }


def read(call: ast.Call, dicts: dict[str, ast.Dict], place: str) -> Logged:
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    if isinstance(extra, ast.Name):
        extra = dicts.get(extra.id)
    assert isinstance(extra, ast.Dict), f"{place} has no extra"
    fields = {
        ast.literal_eval(key): value for key, value in zip(extra.keys, extra.values, strict=True) if key
    }
    action = fields.pop("action", None)
    assert action is not None, f"{place} has no action"
    name = action.value if isinstance(action, ast.Constant) else ast.unparse(action)
    level = LEVELS.get(ast.unparse(call.func).removeprefix("logger."), "")
    return Logged(str(name), level, frozenset(fields), place)


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    page = (DOCS / "logging.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \| (.*?) ?\| .+ \|$", page, re.MULTILINE)
    return {action: (level, frozenset(re.findall(r"`(\w+)`", fields))) for action, level, fields in rows}


def logged() -> dict[str, set[tuple[str, frozenset[str]]]]:
    found: dict[str, set[tuple[str, frozenset[str]]]] = defaultdict(set)
    for one in log_calls():
        for action in get_args(Action) if one.action == ENGINE_ACTION else [one.action]:
            level = one.level or ("INFO" if action == "refreshed" else "WARNING")
            found[action].add((level, one.fields))
    return found


def test_every_record_is_documented_with_its_level_and_its_fields() -> None:
    assert logged() == {action: {row} for action, row in documented().items()}


def test_there_are_records() -> None:
    assert {"refreshed", "refresh_failed", "reauthorization_required", "history_failed"} <= logged().keys()


@pytest.mark.parametrize("action", ConnectionEvent.Action.values)
def test_every_action_of_the_history_has_a_row(action) -> None:
    assert f"| `{action}` |" in (DOCS / "history.md").read_text("utf-8")
