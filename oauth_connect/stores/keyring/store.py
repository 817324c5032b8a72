"""The TokenStore over an entry in the keyring. It has the same compare-and-swap protocol as a row.

A process holds the file lock only to read or write the entry, never during HTTP. As in a row, the lease
decides which process refreshes. Only processes of one machine share a keyring, so leases use its clock.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from oauth_connect.engine.store import (
    ACTIVE,
    REAUTHORIZATION_REQUIRED,
    REVOKED,
    Event,
    LeaseState,
    Row,
)
from oauth_connect.errors import KeyringUnavailable
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.stores.keyring.backend import Keyring
from oauth_connect.stores.keyring.entry import Entry, Head
from oauth_connect.stores.keyring.lock import exclusively
from oauth_connect.tracebacks import methods_without_locals

logger = logging.getLogger("oauth_connect.stores")

SAVE_PAUSES = (0.2, 1.0, 3.0)  # seconds between tries of a write that must not be lost
NEW = {
    "version": 0,
    "status": ACTIVE,
    "failures": 0,
    "last_error": "",
    "refresh_at": None,
    "in_doubt": False,
    "lease_owner": "",
    "lease_until": 0.0,
}
MAX_KEPT = 5  # tokens of former logins; each write of the entry writes them all
HEALTHY = {"status": ACTIVE, "failures": 0, "last_error": ""}


def entry_name(provider: Provider) -> str:
    """Return the name of a provider's entry. Each client_id has its own."""
    client = hashlib.sha256(provider.client_id.encode()).hexdigest()[:16]
    return f"oauth_connect:{provider.slug}:{client}"


@dataclass(frozen=True, slots=True, repr=False)
class Ended:
    """The token of a login that ended, the login's data, and the tokens that were kept of former logins."""

    token: Token
    login: dict[str, Any]
    kept: list[Token]


@methods_without_locals
class KeyringStore:
    """One provider's token in the keyring. Every method may raise KeyringUnavailable.

    ``on_orphan`` gets a token that was issued after its entry was removed: it must be revoked. The tokens of
    former logins are kept in the entry, until a logout revokes them with its own.
    """

    def __init__(
        self, provider: Provider, *, on_orphan: Callable[[Token], None] = lambda token: None
    ) -> None:
        self.provider = provider
        self.name = entry_name(provider)
        self._on_orphan = on_orphan
        self._entry = Entry(Keyring(), self.name)

    @property
    def key(self) -> Hashable:
        return self.name

    # --- the TokenStore protocol ----------------------------------------------------------------

    def read(self) -> Row | None:
        with exclusively(self.name):
            head = self._entry.head()
            return None if head is None else self._row(head, self._entry.payload(head))

    def peek(self) -> LeaseState | None:
        head = self._entry.head()
        if head is None:
            return None
        state = head.state
        return LeaseState(state["version"], state["lease_owner"], state["failures"], _is_leased(state))

    def claim(self, seen: Row, owner: str, seconds: float) -> bool:
        with exclusively(self.name):
            head = self._entry.head()
            if head is None or not _is_as_seen(head.state, seen) or _is_leased(head.state):
                return False
            doubt = head.state["in_doubt"] or head.state["lease_owner"] != ""
            lease = {"lease_owner": owner, "lease_until": time.time() + seconds, "in_doubt": doubt}
            self._entry.change(head, {**head.state, **lease})
            return True

    def check_writable(self) -> None:
        with exclusively(self.name):
            self._entry.check_writable()

    def save(
        self,
        seen: Row,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        *,
        failure: str = "",
        reason: str = "",
    ) -> Row | None:
        outcome: dict[str, Any] = dict(HEALTHY)
        if failure:
            outcome |= {"failures": seen.failures + 1, "last_error": failure[:64]}
        if reason:
            outcome |= {"status": REAUTHORIZATION_REQUIRED, "last_error": reason}
        for pause in SAVE_PAUSES:
            try:
                return self._save(seen, owner, token, refresh_at, outcome)
            except KeyringUnavailable:
                details = {"action": "keyring_save_retried", "provider": self.provider.slug}
                logger.warning("keyring failed while saving; trying again", extra=details)
                time.sleep(pause)
        return self._save(seen, owner, token, refresh_at, outcome)

    def defer(self, seen: Row, owner: str, *, code: str, until: datetime, in_doubt: bool) -> None:
        def changed(state: Mapping[str, Any]) -> dict[str, Any] | None:
            if state["lease_owner"] != owner:
                return None
            freed = {**state, "lease_owner": "", "in_doubt": state["in_doubt"] or in_doubt}
            if state["version"] == seen.version:
                failed = {"failures": state["failures"] + 1, "last_error": code[:64]}
                freed |= {**failed, "refresh_at": until.timestamp()}
            return freed

        self._change(changed)

    def mark(self, seen: Row, owner: str, reason: str) -> bool:
        def changed(state: Mapping[str, Any]) -> dict[str, Any] | None:
            if state["version"] != seen.version or state["lease_owner"] != owner:
                return None
            marked = {"status": REAUTHORIZATION_REQUIRED, "last_error": reason, "refresh_at": None}
            return {**state, **marked, "lease_owner": ""}

        return self._change(changed)

    def release(self, owner: str) -> None:
        self._change(lambda state: {**state, "lease_owner": ""} if state["lease_owner"] == owner else None)

    def refreshed_another(self, client_id: str, since: datetime) -> bool:
        return False

    def adopt(self, row: Row) -> None:
        """Do nothing: the caller gets the row from the engine."""

    def orphaned(self, token: Token, *, account_changed: bool = False) -> None:
        with exclusively(self.name):
            head = self._entry.head()
            if head is not None and head.state["status"] != REVOKED:
                payload = self._entry.payload(head)
                self._entry.replace(head, head.state, {**payload, "kept": _kept(payload, token)})
                return
        self._on_orphan(token)

    def announce(self, event: Event) -> None:
        slug = self.provider.slug
        if event.action == "refreshed":
            logger.info("refreshed %s", slug, extra={"action": "keyring_refreshed", "provider": slug})
            return
        code = shown(event.code)
        details = {
            "action": "keyring_refresh_failed",
            "provider": slug,
            "code": code,
            "endpoint": event.endpoint,
        }
        logger.warning("%s %s %s", event.action, slug, code, extra=details)

    # --- login and logout -----------------------------------------------------------------------

    def login(self) -> dict[str, Any] | None:
        """Return the data stored at the login (see ``keep``), or None if there is no entry."""
        with exclusively(self.name):
            head = self._entry.head()
            return None if head is None else dict(self._entry.payload(head)["login"])

    def put(self, token: Token, login: Mapping[str, Any], refresh_at: datetime | None) -> None:
        """Store the token of a login over the present entry. A refresh in flight can no longer save."""
        with exclusively(self.name):
            head = self._entry.head()
            before = self._entry.payload(head) if head else {}
            version = head.state["version"] + 1 if head else 0
            state = {**NEW, "version": version, "refresh_at": _timestamp(refresh_at)}
            payload: dict[str, Any] = {"token": token.to_dict(), "login": dict(login)}
            # The tokens of another server must not be sent to this one.
            if head and before["login"]["token_endpoint"] == login["token_endpoint"]:
                held = Token.from_dict(before["token"])
                ended = _is_ended_there(head.state) or not held.differs_from(token)
                payload["kept"] = _kept(before, *([] if ended else [held]))
            self._entry.replace(head, state, payload)

    def end(self) -> Ended | None:
        """Stop local use. Return what to revoke, or None if there is no entry.

        The tokens stay in the entry until ``remove``, so that a failed revocation can be repeated.
        """
        with exclusively(self.name):
            head = self._entry.head()
            if head is None:
                return None
            ended = {**NEW, "version": head.state["version"] + 1, "status": REVOKED}
            payload = self._entry.payload(self._entry.change(head, ended))
            kept = [Token.from_dict(one) for one in payload.get("kept", ())]
            return Ended(Token.from_dict(payload["token"]), payload["login"], kept)

    def remove(self) -> None:
        with exclusively(self.name):
            self._entry.remove()

    # --- statements -----------------------------------------------------------------------------

    def _change(self, changed: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> bool:
        with exclusively(self.name):
            head = self._entry.head()
            state = changed(head.state) if head else None
            if head is None or state is None:
                return False
            self._entry.change(head, state)
            return True

    def _save(
        self,
        seen: Row,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        outcome: Mapping[str, Any],
    ) -> Row | None:
        with exclusively(self.name):
            head = self._entry.head()
            if head is None:
                return None
            state = head.state
            same, mine = state["version"] == seen.version, state["lease_owner"] == owner
            if not (same or mine):
                return None
            certain = mine or state["status"] == REAUTHORIZATION_REQUIRED
            saved = {
                **state,
                **outcome,
                "version": state["version"] + 1,
                "refresh_at": _timestamp(refresh_at),
                "in_doubt": state["in_doubt"] and not certain,
                "lease_owner": "" if mine else state["lease_owner"],
            }
            payload = {**self._entry.payload(head), "token": token.to_dict()}
            return self._row(self._entry.replace(head, saved, payload), payload)

    def _row(self, head: Head, payload: Mapping[str, Any]) -> Row:
        state = head.state
        refresh_at = state["refresh_at"]
        return Row(
            version=state["version"],
            lease_owner=state["lease_owner"],
            failures=state["failures"],
            leased=_is_leased(state),
            status=state["status"],
            token=Token.from_dict(payload["token"]),
            client_id=payload["login"]["client_id"],
            redirect_uri=payload["login"]["redirect_uri"],
            in_doubt=state["in_doubt"],
            last_error=state["last_error"],
            error_since=None,
            refresh_at=None if refresh_at is None else datetime.fromtimestamp(refresh_at, UTC),
            usable=True,
        )


def _is_leased(state: Mapping[str, Any]) -> bool:
    return bool(state["lease_owner"]) and bool(state["lease_until"] > time.time())


def _is_as_seen(state: Mapping[str, Any], seen: Row) -> bool:
    found = (state["version"], state["status"], state["failures"])
    return found == (seen.version, seen.status, seen.failures)


def _is_ended_there(state: Mapping[str, Any]) -> bool:
    return bool(state["status"] == REAUTHORIZATION_REQUIRED and state["last_error"] == "revoked")


def _kept(payload: Mapping[str, Any], *tokens: Token) -> list[dict[str, Any]]:
    """Return the kept tokens of an entry and some more: the newest, without other fields."""
    added = [replace(token, extra={}).to_dict() for token in tokens]
    return [*payload.get("kept", ()), *added][-MAX_KEPT:]


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
