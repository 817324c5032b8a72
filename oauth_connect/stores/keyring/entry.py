"""Stores a token's entry: a small state, and a long payload in parts that any back end can store.

The state alternates between two places, and the payload between two sets of parts. The newest state names
its set. So a write that a crash interrupts leaves the former state and payload intact. This holds even if the
back end deletes before it writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oauth_connect.errors import KeyringUnavailable
from oauth_connect.stores.keyring.backend import PART_LENGTH, Keyring

PLACES = (0, 1)
DAMAGED = "The token in the keyring is incomplete. Log in again."


@dataclass(frozen=True, slots=True)
class Head:
    """A ``state`` and the location of its payload. ``sequence`` grows with each write."""

    sequence: int
    place: int
    generation: int
    parts: int
    digest: str
    state: Mapping[str, Any]


class Entry:
    """One token in a keyring. The caller holds its ``lock``. Every method may raise KeyringUnavailable."""

    def __init__(self, keyring: Keyring, name: str) -> None:
        self._keyring = keyring
        self._name = name

    def head(self) -> Head | None:
        """Return the newest state, or None if nothing is stored."""
        heads = [head for place in PLACES if (head := self._head_at(place)) is not None]
        return max(heads, key=lambda head: head.sequence, default=None)

    def payload(self, head: Head) -> dict[str, Any]:
        parts = [self._keyring.get(self._part(head.generation, number)) for number in range(head.parts)]
        text = "".join(part or "" for part in parts)
        if _digest(text) != head.digest:
            raise KeyringUnavailable(DAMAGED)
        payload: dict[str, Any] = json.loads(text)
        return payload

    def change(self, head: Head, state: Mapping[str, Any]) -> Head:
        """Write another state for the same payload."""
        return self._put_head(head, head.generation, head.parts, head.digest, state)

    def replace(self, head: Head | None, state: Mapping[str, Any], payload: Mapping[str, Any]) -> Head:
        """Write another payload and its state. The former ones stay until both are written."""
        text = json.dumps(payload)
        generation = 1 - head.generation if head else 0
        parts = [text[start : start + PART_LENGTH] for start in range(0, len(text), PART_LENGTH)]
        for number, part in enumerate(parts):
            self._keyring.put(self._part(generation, number), part)
        written = self._put_head(head, generation, len(parts), _digest(text), state)
        self._drop_parts(generation, beyond=len(parts))
        self._drop_parts(1 - generation)
        return written

    def remove(self) -> None:
        """Delete the entry, the newest state last, so that an interrupted call can be repeated."""
        head = self.head()
        for generation in PLACES:
            self._drop_parts(generation)
        newest = head.place if head else 0
        for place in (1 - newest, newest):
            self._keyring.delete(self._place(place))

    def check_writable(self) -> None:
        self._keyring.check_writable(f"{self._name}:probe")

    def _put_head(
        self, before: Head | None, generation: int, parts: int, digest: str, state: Mapping[str, Any]
    ) -> Head:
        sequence = before.sequence + 1 if before else 1
        place = 1 - before.place if before else 0
        head = Head(sequence, place, generation, parts, digest, dict(state))
        self._keyring.put(self._place(place), json.dumps([sequence, generation, parts, digest, dict(state)]))
        return head

    def _head_at(self, place: int) -> Head | None:
        text = self._keyring.get(self._place(place))
        try:
            sequence, generation, parts, digest, state = json.loads(text or "")
        except (ValueError, TypeError):
            return None
        return Head(sequence, place, generation, parts, digest, state)

    def _drop_parts(self, generation: int, beyond: int = 0) -> None:
        """Delete parts, the last one first. After a crash they have no gap, so the next call finds them."""
        last = beyond
        while self._keyring.get(self._part(generation, last)) is not None:
            last += 1
        for number in reversed(range(beyond, last)):
            self._keyring.delete(self._part(generation, number))

    def _place(self, place: int) -> str:
        return f"{self._name}:state-{place}"

    def _part(self, generation: int, number: int) -> str:
        return f"{self._name}:token-{generation}-{number}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
