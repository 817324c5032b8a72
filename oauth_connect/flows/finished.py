"""Finds out how a flow ended, because browsers may request a callback twice.

A doubled click, a reload, or a proxy that repeats a GET sends the same response again. A success shows in the
connection, and its flow stays in the session until it expires. So it usually writes no session, and what
other tabs store there meanwhile stays. A failure is noted for a minute in the session of the browser that
started the flow. A note holds no secret.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q
from django.http import HttpRequest

from oauth_connect.errors import CallbackRefused, RepeatedResponse
from oauth_connect.flows import pending as pending_store
from oauth_connect.flows.paths import local_path
from oauth_connect.flows.pending import (
    FINISHED_KEY,
    SESSION_KEY,
    PendingAuthorization,
    entries_of,
    is_in_cookie,
    is_saved_later,
    name_of,
    stored_again,
)
from oauth_connect.models import Connection
from oauth_connect.protocol.grants.error_codes import shown, word_of_provider

LIFETIME = 60  # seconds
MAX_FINISHED = 2
MAX_COOKIE_SIZE = 600  # characters of all notes, if the session is stored in a cookie
WAIT = 3.0  # seconds for the first request to finish
PAUSE = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Finished:
    """How a flow ended. ``refused``: the code of its error, or "".

    ``running``: it had not ended when the note was written. A connection that the ``owner`` has stored since
    ``started`` (epoch seconds) is then its success.
    """

    user: str
    provider: str
    next: str
    running: bool = False
    refused: str = ""
    error: str = ""
    unavailable: bool = False
    connect_url: str = ""
    owner: str = ""
    started: float = 0.0


def begin(request: HttpRequest, flow: PendingAuthorization) -> bool:
    """Let a second request with the same response find this flow. Return False if the session has ended.

    It finds the flow itself, or a note if the flow is in the cookie only, or if the session is saved anyway.
    """
    if name_of(flow.state) in entries_of(request.session, SESSION_KEY) and not is_saved_later(request):
        return bool(request.session.exists(request.session.session_key or ""))
    running = Finished(
        flow.user, flow.provider, flow.next, running=True, owner=flow.owner, started=time.time()
    )
    return pending_store.remove(request, flow.state, _with(request, request.session, flow, running))


def end(request: HttpRequest, flow: PendingAuthorization, error: Exception | None = None) -> None:
    """Write into the session how a flow ended, and save it. Keep what other tabs have stored meanwhile.

    A success is written only if the session is saved anyway. If the session has ended meanwhile, nobody can
    send the response again, and nothing is written.
    """
    if error is None and not is_saved_later(request):
        return
    stored = stored_again(request)
    flows = entries_of(stored, SESSION_KEY)
    own = name_of(flow.state)
    values = {
        SESSION_KEY: {name: flows[name] for name in flows if name != own},
        FINISHED_KEY: _with(request, stored, flow, _ended(flow, error)),
    }
    pending_store.write(request, values)


def _with(request: HttpRequest, stored: Any, flow: PendingAuthorization, ended: Finished) -> dict[str, Any]:
    """Return the notes of a session with a new one, without old ones and without too many."""
    own = name_of(flow.state)
    others = [item for item in _recent(stored).items() if item[0] != own]
    others.sort(key=lambda item: float(item[1][0]), reverse=True)
    return _fitting(request, [(own, [time.time(), *astuple(ended)]), *others])


def _fitting(request: HttpRequest, newest_first: list[tuple[str, Any]]) -> dict[str, Any]:
    kept = newest_first[:MAX_FINISHED]
    while kept and is_in_cookie(request) and len(json.dumps(kept)) > MAX_COOKIE_SIZE:
        kept.pop()
    return dict(kept)


def _ended(flow: PendingAuthorization, error: Exception | None) -> Finished:
    if error is None:
        return Finished(flow.user, flow.provider, flow.next)
    unavailable = not isinstance(error, CallbackRefused)
    code = str(getattr(error, "code", "failed"))
    return Finished(
        flow.user,
        flow.provider,
        flow.next,
        refused=shown(code) if unavailable else code,
        error=error.error if isinstance(error, CallbackRefused) else word_of_provider(error),
        unavailable=unavailable,
        connect_url=getattr(error, "connect_url", ""),
    )


def raise_if_finished(request: HttpRequest, slug: str, state: str) -> None:
    """Raise RepeatedResponse if this session finishes the flow of this state, or did within a minute."""
    found = _find(request.session, state)
    if found is not None and (found.provider, found.user) == (slug, str(request.user.pk)):
        raise _repeated(_outcome(request, state, found.owner, slug, found.started) or found)


def raise_if_own(request: HttpRequest, slug: str, flow: PendingAuthorization) -> None:
    """Raise RepeatedResponse for a flow of this user that another request of the session finishes."""
    if (flow.provider, flow.user) == (slug, str(request.user.pk)):
        ended = _outcome(request, flow.state, flow.owner, slug, flow.created)
        raise _repeated(ended or Finished(flow.user, flow.provider, flow.next))


def _outcome(request: HttpRequest, state: str, owner: str, provider: str, since: float) -> Finished | None:
    """Return the note of a flow, when it has ended. None: there is no note of an end.

    Waits a few seconds for the end, because the page that follows may need the connection.
    """
    until = time.monotonic() + (0 if is_in_cookie(request) else WAIT)
    while (found := _find(stored_again(request), state)) is None or found.running:
        if time.monotonic() >= until or (owner and _has_connected(owner, provider, since)):
            break
        time.sleep(PAUSE)
    return found


def _has_connected(owner: str, provider: str, since: float) -> bool:
    """Return whether a connection was stored since then (epoch seconds). Reads from the primary."""
    start = datetime.fromtimestamp(since, UTC)
    rows = Connection.objects.from_primary().for_owner(owner).filter(provider=provider)
    refreshed = Q(last_refreshed_at__gte=start)  # this is another reason for a change
    return rows.filter(status=Connection.Status.ACTIVE, updated_at__gte=start).exclude(refreshed).exists()


def _repeated(found: Finished) -> RepeatedResponse:
    return RepeatedResponse(
        "This response was used already.",
        next_path=local_path(found.next),
        refused=found.refused,
        unavailable=found.unavailable,
        error=found.error,
        connect_url=local_path(found.connect_url),
    )


def _find(session: Any, state: str) -> Finished | None:
    entry = _recent(session).get(name_of(state))
    try:
        return Finished(*entry[1:]) if entry else None
    except TypeError:  # another version of this package stored it
        return None


def _recent(session: Any) -> Mapping[str, Any]:
    since = time.time() - LIFETIME
    return {name: entry for name, entry in entries_of(session, FINISHED_KEY).items() if entry[0] > since}
