"""The usernames and passwords of the demo, which the demo prints."""

from __future__ import annotations

from typing import NamedTuple


class Logins(NamedTuple):
    usernames: tuple[str, ...]
    password: str


DESK = Logins(("alice", "bob", "admin"), "desk-demo")
CODEYARD = Logins(("ada", "linus"), "codeyard-demo")
