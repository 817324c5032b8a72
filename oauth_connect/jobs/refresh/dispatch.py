"""Spreading what is due over a site's own workers, whatever engine runs them.

``dispatch_due`` hands out primary keys and claims nothing; ``refresh_connections``, in any worker, refreshes
those that are still due. A key handed out twice costs a look: the lease in the row decides who refreshes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due, round_robin

CHUNK = 100  # connections a message
WORKERS = 8  # threads of one task; a site runs several tasks at once

Enqueue = Callable[[str, list[str]], object]


def dispatch_due(
    enqueue: Enqueue,
    *,
    providers: Iterable[str] = (),
    within: float = 0,
    chunk: int = CHUNK,
    limit: int | None = None,
) -> int:
    """Call ``enqueue(provider, pks)`` for what is due, and return how many keys that were.

    ``within``: seconds ahead. ``chunk``: at most so many keys a call, all of one provider, the longest
    overdue first. ``limit``: at most so many in all, the providers in turn. Raises DatabaseError.
    """
    if chunk < 1:
        raise ValueError("chunk: at least one connection a message")
    due = Due(providers, timedelta(seconds=within))
    usable = [slug for slug in due.providers() if why_unavailable(slug, due.alias) is None]
    handed_out = 0
    for provider, pks in round_robin(due.primary_keys(slug, chunk) for slug in usable):
        chosen = pks if limit is None else pks[: limit - handed_out]
        if not chosen:
            break
        enqueue(provider, chosen)
        handed_out += len(chosen)
    return handed_out


def refresh_connections(
    pks: Iterable[str], *, provider: str = "", within: float = 0, workers: int = WORKERS
) -> dict[str, int]:
    """Refresh those of the connections that are still due, and return how many had which outcome.

    ``provider``: whose they are, where they are of one; it saves looking. ``within``: seconds ahead, as in
    the dispatch. ``workers``: threads. Raises DatabaseError where they cannot be read.
    """
    due = Due([provider] if provider else (), timedelta(seconds=within), pks=pks)
    return dict(Counter(result.outcome for result in refresh_due(due, workers=workers)))
