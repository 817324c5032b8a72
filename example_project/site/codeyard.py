"""Reads from the API of Codeyard, for a user of Desk or for Desk itself."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.utils.dateparse import parse_datetime

from oauth_connect.flows import machine_session, session_for

PROVIDER = "codeyard"
REPORTS = "codeyard-reports"
SCOPES = ("repositories", "activity")
TIMEOUT = 10

Rows = list[dict[str, Any]]


class Codeyard:
    """Reads from a connected account. Every method may raise `requests.RequestException`."""

    def __init__(self, user: AbstractBaseUser, account_id: str | None = None) -> None:
        self._http = session_for(user, PROVIDER, account_id=account_id, scopes=SCOPES)

    def repositories(self) -> Rows:
        return self._get("repositories")

    def recent_activity(self) -> Rows:
        return _with_times(self._get("activity"))

    def activity_of(self, repository: str) -> Rows:
        return _with_times(self._get(f"repositories/{repository}/activity"))

    def _get(self, path: str) -> Rows:
        response = self._http.get(path, timeout=TIMEOUT)
        response.raise_for_status()
        return response.json()


def figures() -> dict[str, int]:
    """Return figures that Desk reads with its machine token. May raise `requests.RequestException`."""
    response = machine_session(REPORTS).get("analytics", timeout=TIMEOUT)
    response.raise_for_status()
    return response.json()


def _with_times(lines: Rows) -> Rows:
    return [{**line, "at": parse_datetime(line["at"])} for line in lines]
