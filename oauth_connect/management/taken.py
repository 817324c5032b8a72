"""What a run of oauth_import did, counted by provider and outcome, as lines and as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from oauth_connect.jobs.import_tokens import FAILED, OUTCOMES, Result
from oauth_connect.management.command import words

REASONS = {
    "unknown_provider": 'not in OAUTH_CONNECT["PROVIDERS"] under this name; see --map',
    "not_oauth2": "a token of OAuth 1.0a, which is not refreshed",
    "no_user": "its user is not one of AUTH_USER_MODEL",
    "no_token": "holds no access token",
    "expired": "has run out, and there is no refresh token",
    "other_client": "obtained by another client_id than the provider's entry has: a refresh would fail",
    "unknown_client": "nothing says which client_id obtained it; put that package's settings back meanwhile",
    "invalid_settings": "the provider's entry in the settings is wrong, see oauth_doctor",
    "variable_missing": "the provider's entry has a variable that the row does not tell; connect it again",
    "unreadable": "holds what is no token, or no account id",
}
MOST_NAMED = 20


class Tally:
    """What became of the rows."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.unfit: dict[tuple[str, str], list[str]] = {}

    def count(self, result: Result) -> None:
        self.counts[result.provider, result.slug, result.outcome] += 1
        if result.outcome in REASONS:
            self.unfit.setdefault((result.provider, result.outcome), []).append(result.pk)

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def failed(self) -> int:
        return sum(self.by_outcome()[outcome] for outcome in FAILED)

    def by_outcome(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for (_, _, outcome), number in self.counts.items():
            found[outcome] += number
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def rows(self) -> list[tuple[str, str, str, int]]:
        return [
            (there, here, words(outcome), number)
            for (there, here, outcome), number in sorted(self.counts.items())
        ]

    def reasons(self) -> Iterator[str]:
        for (provider, outcome), pks in sorted(self.unfit.items()):
            more = f" and {len(pks) - MOST_NAMED} more (--json names all)" if len(pks) > MOST_NAMED else ""
            yield f"{provider}: {REASONS[outcome]}. Rows {', '.join(pks[:MOST_NAMED])}{more}."

    def document(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "outcomes": self.by_outcome(),
            "providers": [
                {"name": there, "provider": here, "outcome": outcome, "rows": number}
                for (there, here, outcome), number in sorted(self.counts.items())
            ],
            "left_out": [
                {"name": provider, "outcome": outcome, "rows": pks}
                for (provider, outcome), pks in sorted(self.unfit.items())
            ],
        }
