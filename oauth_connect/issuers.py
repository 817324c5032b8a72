"""Caches the metadata of issuers: in this process, and in Django's cache for other processes.

Metadata is fetched when a caller needs it, never at import, at start or by ``check``. It contains no secret.
It is signed, because it decides where secrets are sent.
"""

from __future__ import annotations

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
from oauth_connect.tracebacks import copy_of

logger = logging.getLogger("oauth_connect.issuers")
SALT = "oauth_connect.issuers"
MAX_STALE = 86_400.0  # seconds for which expired metadata is used while no new metadata can be fetched
RETRY_PAUSE = 10.0  # seconds after a failure
LOCK_MARGIN = 5.0
MAX_ISSUERS = 1000


@dataclass(frozen=True, slots=True)
class _Cached:
    """An issuer's metadata, and until when it is fresh, in epoch seconds."""

    metadata: Metadata
    fresh_until: float

    def is_fresh(self, now: float) -> bool:
        return now < self.fresh_until

    def is_usable(self, now: float) -> bool:
        return now < self.fresh_until + MAX_STALE


@dataclass(slots=True)
class _Slot:
    """The state of one issuer in this process. Only the thread that holds the lock fetches."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    cached: _Cached | None = None
    failure: CallError | None = None
    retry_at: float = 0.0
    look_at: float = 0.0  # when a page may look into the shared cache again


@dataclass(frozen=True, slots=True)
class Terms:
    """How to fetch: the allowed addresses, the timeout in seconds, and the cache that processes share."""

    guard: AddressGuard
    timeout: float = 15.0
    cache: BaseCache | None = None


class Issuers:
    """The metadata of issuers. ``now`` returns epoch seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._slots: dict[tuple[str, AddressGuard], _Slot] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_locks)

    def metadata(self, issuer: str, terms: Terms) -> Metadata:
        """Return the metadata of an issuer. If it must be fetched, one caller at a time fetches it.

        Expired metadata is returned while another caller fetches, and for a day while every fetch fails.
        Raises ProviderUnavailable or ProviderMisconfigured if there is none.
        """
        slot = self._slot(issuer, terms.guard)
        cached = slot.cached
        if cached is not None and cached.is_fresh(self._now()):
            return cached.metadata
        if not slot.lock.acquire(blocking=False):
            if cached is not None and cached.is_usable(self._now()):
                return cached.metadata
            if not slot.lock.acquire(timeout=terms.timeout + LOCK_MARGIN):
                raise ProviderUnavailable(
                    f"Another thread still fetches the metadata of {issuer}. Try again later.",
                    code="busy",
                )
        try:
            return self._renewed(slot, issuer, terms)
        finally:
            slot.lock.release()

    def known(self, issuer: str, terms: Terms) -> Metadata | None:
        """Return the metadata that this process or the shared cache has, or None. Sends no request.

        Looks into the shared cache rarely, because pages call this and the cache may be slow or down.
        """
        slot, now = self._slot(issuer, terms.guard), self._now()
        if slot.cached is None and now >= slot.look_at:
            slot.look_at = now + RETRY_PAUSE
            slot.cached = _newer(slot.cached, _read_shared(issuer, terms))
        cached = slot.cached
        return cached.metadata if cached is not None and cached.is_usable(now) else None

    def _slot(self, issuer: str, guard: AddressGuard) -> _Slot:
        key = (issuer, guard)
        # Bounded, because a table that users fill may name many issuers.
        if key not in self._slots and len(self._slots) >= MAX_ISSUERS:
            self._slots.clear()
        return self._slots.setdefault(key, _Slot())

    def _renewed(self, slot: _Slot, issuer: str, terms: Terms) -> Metadata:
        now = self._now()
        if slot.cached is None or not slot.cached.is_fresh(now):
            slot.cached = _newer(slot.cached, _read_shared(issuer, terms))
        if slot.cached is not None and slot.cached.is_fresh(now):
            return slot.cached.metadata
        if slot.failure is None or now >= slot.retry_at:
            self._fetch(slot, issuer, terms)
        if slot.cached is not None and slot.cached.is_usable(now):
            return slot.cached.metadata
        assert slot.failure is not None  # noqa: S101
        raise copy_of(slot.failure)

    def _fetch(self, slot: _Slot, issuer: str, terms: Terms) -> None:
        try:
            fetched = discovery.fetch(issuer, guard=terms.guard, timeout=terms.timeout)
        except CallError as failure:
            slot.failure, slot.retry_at = failure, self._now() + RETRY_PAUSE
            code = getattr(failure, "code", "failed")
            details = {"action": "discovery_failed", "issuer": issuer, "code": shown(code)}
            logger.warning("discovery failed: %s (%s)", issuer, details["code"], extra=details)
            return
        slot.failure = None
        slot.cached = _Cached(fetched.metadata, self._now() + fetched.max_age)
        _share(issuer, terms, fetched.document, slot.cached.fresh_until, fetched.max_age + MAX_STALE)

    def _renew_locks(self) -> None:
        for slot in self._slots.values():
            slot.lock = threading.Lock()


def _newer(own: _Cached | None, shared: _Cached | None) -> _Cached | None:
    if own is None or shared is None:
        return own or shared
    return max(own, shared, key=lambda cached: cached.fresh_until)


def _key(issuer: str) -> str:
    return f"oauth_connect.issuer.{hashlib.sha256(issuer.encode()).hexdigest()}"


def _read_shared(issuer: str, terms: Terms) -> _Cached | None:
    """Return metadata that another process fetched. It is validated as if it came from the issuer."""
    if terms.cache is None:
        return None
    try:
        signed = terms.cache.get(_key(issuer))
        if signed is None:
            return None
        shared: Any = signing.loads(signed, salt=SALT)
        metadata = discovery.read_metadata(issuer, shared["document"], terms.guard)
        return _Cached(metadata, shared["fresh_until"])
    except Exception:  # the cache is down, or has another value: fetch from the issuer instead
        details = {"action": "discovery_cache_failed", "issuer": issuer}
        logger.warning("cached metadata of %s cannot be used", issuer, exc_info=True, extra=details)
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
        logger.warning("metadata of %s cannot be cached", issuer, exc_info=True, extra=details)
