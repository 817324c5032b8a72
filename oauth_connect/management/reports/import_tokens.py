"""The report of oauth_import: counts by provider and outcome, as lines and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from oauth_connect.jobs.import_tokens import FAILED, OUTCOMES, Result
from oauth_connect.management.output import Tally

REASONS = {
    "unknown_provider": 'not in OAUTH_CONNECT["PROVIDERS"] under this name; see --map',
    "not_oauth2": "a token of OAuth 1.0a, which cannot be refreshed",
    "no_user": "its user is not one of AUTH_USER_MODEL",
    "no_token": "holds no access token",
    "expired": "has expired, and there is no refresh token",
    "other_client": "obtained by another client_id than the provider's entry has: a refresh would fail",
    "unknown_client": "the client_id that obtained it is unknown; restore that package's settings to import",
    "invalid_settings": "the provider's entry in the settings is wrong, see oauth_doctor",
    "variable_missing": "the row has no value for a variable of the provider; the owner must connect again",
    "unreadable": "holds an invalid token, or no account id",
}
MAX_NAMED = 20


class Report:
    """Counts the results of a run, by the other package's name of the provider and by its slug here."""

    def __init__(self) -> None:
        self.tally = Tally(OUTCOMES, FAILED)
        self.left_out: dict[tuple[str, str], list[str]] = {}

    def count(self, result: Result) -> None:
        self.tally.add(result.provider, result.slug, result.outcome)
        if result.outcome in REASONS:
            self.left_out.setdefault((result.provider, result.outcome), []).append(result.pk)

    def reasons(self) -> Iterator[str]:
        for (provider, outcome), pks in sorted(self.left_out.items()):
            more = f" and {len(pks) - MAX_NAMED} more (--json lists all)" if len(pks) > MAX_NAMED else ""
            yield f"{provider}: {REASONS[outcome]}. Rows {', '.join(pks[:MAX_NAMED])}{more}."

    def document(self) -> dict[str, Any]:
        return {
            "total": self.tally.total,
            "outcomes": self.tally.by_outcome(),
            "providers": [
                {"name": theirs, "provider": ours, "outcome": outcome, "rows": number}
                for (theirs, ours, outcome), number in self.tally.items()
            ],
            "left_out": [
                {"name": provider, "outcome": outcome, "rows": pks}
                for (provider, outcome), pks in sorted(self.left_out.items())
            ],
        }
