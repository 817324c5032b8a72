"""No interleaving of workers, crashes and people loses a token; without any one of the rules, one does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import Phase

from tests.engine.model.machine import LeaseProtocol
from tests.engine.model.provider import KINDS, Kind
from tests.engine.model.rules import RULES, Rule
from tests.engine.model.search import examples, search
from tests.engine.model.world import Violation

# Examples. With ten seeds tried, no rule needed half of them, and most needed less than fifty.
ENOUGH = 1000


@pytest.mark.parametrize("kind", KINDS)
def test_no_interleaving_loses_a_token(kind: Kind) -> None:
    intact = type("Intact", (LeaseProtocol,), {"kinds": (kind,)})
    search(intact, max_examples=examples(100), stateful_step_count=25)


@pytest.mark.slow
def test_no_interleaving_of_many_loses_a_token() -> None:
    search(LeaseProtocol, max_examples=examples(300), stateful_step_count=40)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_without_the_rule_something_is_lost(rule: Rule) -> None:
    lacking = type("Lacking", (LeaseProtocol,), {"parts": rule.taken_out(), **rule.hints()})
    with pytest.raises(Violation):
        search(lacking, max_examples=ENOUGH, stateful_step_count=10, phases=[Phase.generate])


def test_every_rule_has_its_row_in_the_docs() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "refresh-protocol.md").read_text("utf-8")
    _, _, table = page.partition("### What is lost without each rule")
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    assert rows[1:] == [f"| {rule.name} | {rule.without} |" for rule in RULES]
