"""How the searches of this folder go: the same way on every run, for as many examples as the profile says."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.model.baton import crew
from tests.engine.model.machine import LeaseProtocol

SEARCH: dict[str, Any] = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "print_blob": False,
    "suppress_health_check": list(HealthCheck),
}


def examples(number: int) -> int:
    """So many in the ordinary run, where Hypothesis itself takes 100; in the long run as many times more."""
    assert settings.default is not None
    return number * settings.default.max_examples // 100


def search(machine: type[LeaseProtocol], **options: Any) -> None:
    try:
        run_state_machine_as_test(machine, settings=settings(**SEARCH, **options))
    finally:
        crew.dismiss()
