"""Distributes due connections to a site's own workers. Works with any task queue.

``dispatch_due`` sends primary keys to the queue and claims no row. ``refresh_connections`` runs in a worker
and refreshes those that are still due. A key that was sent twice costs one query, because the row's lease
decides which worker refreshes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from oauth_connect.jobs.refresh.availability import why_unavailable
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due, round_robin
from oauth_connect.tracebacks import without_locals

CHUNK = 100  # connections in one message
WORKERS = 8  # threads of one task; a site runs several tasks in parallel

Enqueue = Callable[[str, list[str]], object]


@without_locals
def dispatch_due(
    enqueue: Enqueue,
    *,
    providers: Iterable[str] = (),
    within: float = 0,
    chunk: int = CHUNK,
    limit: int | None = None,
) -> int:
    """Call ``enqueue(provider, pks)`` for the due connections, and return the number of keys.

    ``within``: also those that are due within so many seconds. ``chunk``: the most keys in one call; they are
    of one provider, the longest overdue first. ``limit``: the most keys in all, round robin over the
    providers. Raises DatabaseError.
    """
    if chunk < 1:
        raise ValueError("chunk: must be at least 1")
    due = Due(providers, timedelta(seconds=within))
    usable = [slug for slug in due.providers() if why_unavailable(slug, due.alias) is None]
    sent = 0
    for provider, pks in round_robin(due.primary_keys(slug, chunk) for slug in usable):
        chosen = pks if limit is None else pks[: limit - sent]
        if not chosen:
            break
        enqueue(provider, chosen)
        sent += len(chosen)
    return sent


@without_locals
def refresh_connections(
    pks: Iterable[str], *, provider: str = "", within: float = 0, workers: int = WORKERS
) -> dict[str, int]:
    """Refresh the given connections that are still due, and return the number for each outcome.

    ``provider``: the provider of all of them, if they have one in common; it saves queries. ``within``:
    seconds, as in the dispatch. ``workers``: threads. Raises DatabaseError where they cannot be read.
    """
    due = Due([provider] if provider else (), timedelta(seconds=within), pks=pks)
    return dict(Counter(result.outcome for result in refresh_due(due, workers=workers)))
