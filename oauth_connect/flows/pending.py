"""Authorization requests under way: in the user's session, sealed, few, and for ten minutes.

The session binds them to the browser that began (RFC 6749 section 10.12).
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable

SESSION_KEY = "oauth_connect_pending"
LIFETIME = 600  # seconds
AT_MOST = 6


@dataclass(frozen=True, repr=False)
class PendingAuthorization:
    """What was said at the start and must hold at the end. ``created`` is in epoch seconds."""

    state: str
    provider: str
    owner: str
    user: str
    client_id: str
    redirect_uri: str
    code_verifier: str
    nonce: str
    scopes: list[str]
    next: str
    connection: str
    created: float = field(default_factory=time.time)

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.created + LIFETIME, UTC)

    @property
    def has_expired(self) -> bool:
        return not 0 <= time.time() - self.created < LIFETIME


def remember(request: HttpRequest, pending: PendingAuthorization) -> None:
    """Put an entry into the session; the oldest ones beyond a handful go."""
    entries = {**_stored(request), **request.session.get(SESSION_KEY, {})}
    name = _name(pending.state)
    entries[name] = [pending.created, crypto.seal(asdict(pending), _binding(name))]
    newest = sorted(entries.items(), key=lambda entry: entry[1][0])[-AT_MOST:]
    request.session[SESSION_KEY] = dict(newest)
    request.session.save()


def take(request: HttpRequest, state: str) -> PendingAuthorization | None:
    """Take an entry out of the session: whatever happens next, this state is spent here."""
    entries: dict[str, Any] = dict(request.session.get(SESSION_KEY, {}))
    name = _name(state)
    found = entries.pop(name, None)
    if found is None:
        return None
    request.session[SESSION_KEY] = entries
    request.session.save()
    try:
        return PendingAuthorization(**crypto.unseal(found[1], _binding(name)))
    except KeyUnavailable:
        return None


def _stored(request: HttpRequest) -> dict[str, Any]:
    """Read the session afresh: another tab may have begun since this request loaded it."""
    session = request.session
    if not session.session_key:
        return {}
    fresh = type(session)(session.session_key).load()
    found = fresh.get(SESSION_KEY, {})
    return found if isinstance(found, dict) else {}


def _name(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _binding(name: str) -> crypto.Binding:
    return ("session", SESSION_KEY, name)
