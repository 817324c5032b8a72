"""Stores pending authorization requests in the user's session: sealed, few, and for ten minutes.

The session binds them to the browser that started them (RFC 6749 section 10.12).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.sessions.backends import signed_cookies
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable

SESSION_KEY = "oauth_connect_pending"
FINISHED_KEY = "oauth_connect_finished"  # see ``finished``
LIFETIME = 600  # seconds
MAX_PENDING = 6
RECENT = 1.0  # seconds
_ARRIVED = "_oauth_connect_arrived"  # attribute of the request
# Characters. Browsers drop a cookie of more than 4096 bytes, and the site stores its own values there too.
MAX_COOKIE_SIZE = 2800


@dataclass(frozen=True, repr=False)
class PendingAuthorization:
    """The values at the start of a flow; its end is checked against them. ``created``: epoch seconds."""

    state: str
    provider: str
    owner: str
    user: str
    client_id: str
    issuer: str
    token_endpoint: str
    redirect_uri: str
    code_verifier: str
    nonce: str
    scopes: list[str]
    next: str
    connection: str
    variables: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.created + LIFETIME, UTC)

    @property
    def has_expired(self) -> bool:
        return time.time() - self.created >= LIFETIME


def note_arrival(request: HttpRequest) -> None:
    """Note when a request arrived, so that ``remember`` reads the session again only if it took long."""
    setattr(request, _ARRIVED, time.monotonic())


def remember(request: HttpRequest, pending: PendingAuthorization) -> None:
    """Store a request in the session, and remove the oldest ones if there are too many.

    Raises SessionInterrupted (Django answers 400) if the user has signed out in another tab meanwhile.
    """
    loaded = entries_of(request.session, SESSION_KEY)
    entries = loaded if _is_recent(request) else {**entries_of(stored_again(request), SESSION_KEY), **loaded}
    name = name_of(pending.state)
    sealed = crypto.seal(asdict(pending), _binding(name))
    entries = {**entries, name: [pending.created, sealed]}
    if not write(request, {SESSION_KEY: _newest(entries, _max_size(request))}):
        raise SessionInterrupted("The session ended while the provider was asked. Sign in and start again.")


def _is_recent(request: HttpRequest) -> bool:
    """Return whether the session was loaded less than RECENT ago. Discovery or a loader may take longer.

    Two requests of one browser that are closer than that are a doubled click, or for several providers. For
    these, each callback has the newest flow in a cookie.
    """
    arrived: float | None = getattr(request, _ARRIVED, None)
    return arrived is not None and time.monotonic() - arrived < RECENT


def find(request: HttpRequest, state: str) -> PendingAuthorization | None:
    """Return the session's request with this state. Changes nothing.

    Raises KeyUnavailable if the settings have no usable key.
    """
    name = name_of(state)
    found = entries_of(request.session, SESSION_KEY).get(name)
    try:
        return PendingAuthorization(**crypto.unseal(found[1], _binding(name))) if found else None
    except (KeyUnavailable, TypeError):  # TypeError: another version of this package stored it
        crypto.check_sealing()  # without any key, do not blame the user's browser
        return None


def remove(request: HttpRequest, state: str, notes: Mapping[str, Any]) -> bool:
    """Remove a request from the session, and save it with these ``notes`` of finished flows.

    Return False if the session has ended meanwhile.
    """
    entries = dict(entries_of(request.session, SESSION_KEY))
    entries.pop(name_of(state), None)
    return write(request, {SESSION_KEY: entries, FINISHED_KEY: notes})


def write(request: HttpRequest, values: Mapping[str, Any]) -> bool:
    """Set values of the session, save it, and return whether it still exists.

    Signing out in another tab deletes it. The middleware does not save it again, unless it must set a cookie.
    """
    session = request.session
    was_modified = session.modified
    for name, value in values.items():
        session[name] = value
    try:
        session.save()
    except UpdateError:
        # Otherwise the middleware fails to save it too. flush() removes the browser's cookie, which may
        # already be that of a newer session.
        session.modified = False
        if settings.SESSION_SAVE_EVERY_REQUEST:
            session.flush()
        return False
    has_cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME) == session.session_key
    if has_cookie and not was_modified and not is_in_cookie(request):
        session.modified = False
    return True


def is_saved_later(request: HttpRequest) -> bool:
    """Return whether the middleware will save the session at the end of the request."""
    if is_in_cookie(request) or settings.SESSION_SAVE_EVERY_REQUEST or request.session.modified:
        return True
    return has_messages_in_session(request)


def has_messages_in_session(request: HttpRequest) -> bool:
    """Return whether a new message may be stored in the session. The default is a cookie, if it has room."""
    storage = getattr(request, "_messages", None)
    if isinstance(storage, FallbackStorage):
        return len(request.COOKIES.get(CookieStorage.cookie_name, "")) > CookieStorage.max_cookie_size // 2
    return storage is not None and not isinstance(storage, CookieStorage)


def stored_again(request: HttpRequest) -> Mapping[str, Any]:
    """Read the session's data again. Another request may have changed it since this one loaded it."""
    session = request.session
    return type(session)(session.session_key).load() if session.session_key else {}


def entries_of(session: Any, key: str) -> dict[str, Any]:
    found = session.get(key, {})
    return found if isinstance(found, dict) else {}


def is_in_cookie(request: HttpRequest) -> bool:
    """Return whether the session's data is in the cookie, so that other requests cannot change it."""
    return isinstance(request.session, signed_cookies.SessionStore)


def _max_size(request: HttpRequest) -> float:
    finished = len(json.dumps(entries_of(request.session, FINISHED_KEY)))
    return MAX_COOKIE_SIZE - finished if is_in_cookie(request) else math.inf


def _newest(entries: dict[str, Any], free: float) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    by_age = sorted(entries.items(), key=lambda entry: entry[1][0], reverse=True)
    for name, entry in by_age[:MAX_PENDING]:
        free -= len(entry[1])
        if kept and free < 0:
            break
        kept[name] = entry
    return kept


def name_of(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _binding(name: str) -> crypto.Binding:
    return ("session", SESSION_KEY, name)
