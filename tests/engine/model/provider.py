"""A provider as its refresh tokens behave: which it takes, and what a second use of one does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tests.engine.model.memory import Clock

Kind = Literal["strict", "family", "grace", "lasting"]
KINDS: tuple[Kind, ...] = ("strict", "family", "grace", "lasting")
GRACE = 60


@dataclass
class Grant:
    """What one consent gave. ``ended_by``: the user at the provider, or the reuse of a spent token."""

    number: int
    ended_by: Literal["", "user", "reuse"] = ""


@dataclass
class Minted:
    """A refresh token.

    ``void``: a later answer to the same request has taken its place. ``foreign``: it is another account's.
    """

    name: str
    grant: Grant
    successor: Minted | None = None
    spent_at: float | None = None
    spender: Any = None
    void: bool = False
    foreign: bool = False


@dataclass
class ModelProvider:
    """``strict``: a spent token is refused. ``family``: and everything of its grant ends.

    ``grace``: for a while it is answered once more, and the latest answer counts; later, as ``family``.
    ``lasting``: a refresh token is not spent, and no answer has one.
    """

    kind: Kind
    clock: Clock
    minted: dict[str, Minted] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)

    def consent(self) -> Minted:
        self.grants.append(Grant(len(self.grants)))
        return self._mint(self.grants[-1])

    def accepts(self, name: str) -> bool:
        """Whether the token would be answered now."""
        token = self.minted[name]
        if token.grant.ended_by or token.void:
            return False
        return token.spent_at is None or self._in_grace(token)

    def is_spent(self, name: str) -> bool:
        token = self.minted[name]
        return token.spent_at is not None and not token.grant.ended_by

    def spend(self, name: str, spender: Any, *, foreign: bool = False) -> Minted | None:
        """Return the next refresh token, or None where the answer is invalid_grant."""
        token = self.minted[name]
        if not self.accepts(name):
            if token.spent_at is not None and self.kind in {"family", "grace"} and not token.grant.ended_by:
                token.grant.ended_by = "reuse"
            return None
        if self.kind == "lasting":
            return token
        if token.successor is not None:
            token.successor.void = True
        else:
            token.spent_at = self.clock.seconds
        token.spender = spender
        token.successor = self._mint(token.grant)
        token.successor.foreign = foreign
        return token.successor

    def _in_grace(self, token: Minted) -> bool:
        """The next token must not have been used: then its receiver has it, and nobody needs this one."""
        if self.kind != "grace" or token.spent_at is None or token.successor is None:
            return False
        return token.successor.spent_at is None and self.clock.seconds <= token.spent_at + GRACE

    def _mint(self, grant: Grant) -> Minted:
        token = Minted(f"refresh-{len(self.minted)}", grant)
        self.minted[token.name] = token
        return token
