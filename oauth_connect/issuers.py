"""What issuers say of themselves, remembered: in this process, and in Django's cache for the others.

Nothing is fetched before it is needed: not at import, at start or by ``check``. What is remembered
holds no secret; it is signed, because it decides where secrets are sent.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core import signing
from django.core.cache.backends.base import BaseCache

from oauth_connect.errors import CallError, ProviderUnavailable
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.metadata import discovery
from oauth_connect.protocol.metadata.discovery import Metadata
from oauth_connect.protocol.net.addresses import AddressGuard

logger = logging.getLogger("oauth_connect.issuers")
SALT = "oauth_connect.issuers"
STALE = 86_400.0  # seconds for which a document that has expired still serves while no new one is to be had
PAUSE = 10.0  # seconds after a failure in which nobody tries again
MARGIN = 5.0
MAX_ISSUERS = 1000


@dataclass(frozen=True, slots=True)
class _Known:
    """A document, and until when it is fresh, in epoch seconds."""

    metadata: Metadata
    fresh_until: float

    def is_fresh(self, now: float) -> bool:
        return now < self.fresh_until

    def serves(self, now: float) -> bool:
        return now < self.fresh_until + STALE


@dataclass(slots=True)
class _Slot:
    """What this process knows of one issuer; whoever holds the lock fetches."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    known: _Known | None = None
    failure: CallError | None = None
    quiet_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How to fetch: to which addresses, for how many seconds, and what to share it through."""

    guard: AddressGuard
    timeout: float = 15.0
    cache: BaseCache | None = None


class Issuers:
    """The metadata of issuers. ``now`` tells epoch seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._slots: dict[tuple[str, AddressGuard], _Slot] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_locks)

    def metadata(self, issuer: str, terms: Terms) -> Metadata:
        """Return what an issuer says, fetched by one caller at a time where it must be.

        A document that has expired serves while another caller fetches, and for a day where nobody can.
        Raises ProviderUnavailable or ProviderMisconfigured where there is none at all.
        """
        slot = self._slot(issuer, terms.guard)
        known = slot.known
        if known is not None and known.is_fresh(self._now()):
            return known.metadata
        if not slot.lock.acquire(blocking=False):
            if known is not None and known.serves(self._now()):
                return known.metadata
            if not slot.lock.acquire(timeout=terms.timeout + MARGIN):
                raise ProviderUnavailable(f"{issuer} is still being asked for its endpoints.", code="busy")
        try:
            return self._renewed(slot, issuer, terms)
        finally:
            slot.lock.release()

    def _slot(self, issuer: str, guard: AddressGuard) -> _Slot:
        key = (issuer, guard)
        if (
            key not in self._slots and len(self._slots) >= MAX_ISSUERS
        ):  # a table that users fill may name many
            self._slots.clear()
        return self._slots.setdefault(key, _Slot())

    def _renewed(self, slot: _Slot, issuer: str, terms: Terms) -> Metadata:
        now = self._now()
        if slot.known is None or not slot.known.is_fresh(now):
            slot.known = _newer(slot.known, _shared(issuer, terms))
        if slot.known is not None and slot.known.is_fresh(now):
            return slot.known.metadata
        if slot.failure is None or now >= slot.quiet_until:
            self._fetch(slot, issuer, terms)
        if slot.known is not None and slot.known.serves(now):
            return slot.known.metadata
        assert slot.failure is not None  # noqa: S101
        raise copy.copy(slot.failure)  # several threads may raise it

    def _fetch(self, slot: _Slot, issuer: str, terms: Terms) -> None:
        try:
            fetched = discovery.fetch(issuer, guard=terms.guard, timeout=terms.timeout)
        except CallError as failure:
            slot.failure, slot.quiet_until = failure, self._now() + PAUSE
            code = getattr(failure, "code", "failed")
            details = {"action": "discovery_failed", "issuer": issuer, "code": shown(code)}
            logger.warning("discovery failed: %s (%s)", issuer, details["code"], extra=details)
            return
        slot.failure = None
        slot.known = _Known(fetched.metadata, self._now() + fetched.max_age)
        _share(issuer, terms, fetched.document, slot.known.fresh_until, fetched.max_age + STALE)

    def _renew_locks(self) -> None:
        for slot in self._slots.values():
            slot.lock = threading.Lock()


def _newer(ours: _Known | None, shared: _Known | None) -> _Known | None:
    if ours is None or shared is None:
        return ours or shared
    return max(ours, shared, key=lambda known: known.fresh_until)


def _key(issuer: str) -> str:
    return f"oauth_connect.issuer.{hashlib.sha256(issuer.encode()).hexdigest()}"


def _shared(issuer: str, terms: Terms) -> _Known | None:
    """Return what another process fetched; it is read as if it came from the issuer just now."""
    if terms.cache is None:
        return None
    try:
        signed = terms.cache.get(_key(issuer))
        if signed is None:
            return None
        found: Any = signing.loads(signed, salt=SALT)
        return _Known(discovery.read_metadata(issuer, found["document"], terms.guard), found["fresh_until"])
    except Exception:  # a cache that is down, or holds something else, costs a request and no more
        details = {"action": "discovery_cache_failed", "issuer": issuer}
        logger.warning("what the cache holds of %s cannot be used", issuer, exc_info=True, extra=details)
        return None


def _share(
    issuer: str, terms: Terms, document: Mapping[str, Any], fresh_until: float, timeout: float
) -> None:
    if terms.cache is None:
        return
    try:
        signed = signing.dumps({"document": dict(document), "fresh_until": fresh_until}, salt=SALT)
        terms.cache.set(_key(issuer), signed, timeout)
    except Exception:
        details = {"action": "discovery_cache_failed", "issuer": issuer}
        logger.warning("what %s says cannot be cached", issuer, exc_info=True, extra=details)
