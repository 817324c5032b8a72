"""Celery tasks that refresh what is due (extra ``celery``): Celery finds them once this is imported.

Name the module in the app's ``include`` (docs/tasks.md). No task retries: the next dispatch is the retry.
"""

from __future__ import annotations

from collections.abc import Sequence

from oauth_connect.jobs.refresh import dispatch

try:
    from celery import shared_task
except ImportError as error:
    raise ImportError(
        "oauth_connect.contrib.celery needs Celery: pip install 'django-oauth-connect[celery]'."
    ) from error

EXPIRES = 300  # seconds after which a message is dropped unread

# A worker that dies gives its message back; who reads it again finds what is still due.
OPTIONS = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True}


@shared_task(name="oauth_connect.refresh_connections", **OPTIONS)
def refresh_connections(
    pks: list[str], provider: str = "", within: float = 0, workers: int = dispatch.WORKERS
) -> dict[str, int]:
    """Refresh those of the connections that are still due; return how many had which outcome."""
    return dispatch.refresh_connections(pks, provider=provider, within=within, workers=workers)


@shared_task(name="oauth_connect.dispatch_due", **OPTIONS)
def dispatch_due(
    providers: Sequence[str] = (),
    within: float = 0,
    chunk: int = dispatch.CHUNK,
    limit: int | None = None,
    expires: float = EXPIRES,
) -> int:
    """Send ``refresh_connections`` for each chunk of what is due; return how many connections that were.

    ``expires``: seconds after which a message that no worker has taken is dropped. What it named is still
    due, and in a later dispatch: so messages do not pile up.
    """

    def enqueue(provider: str, pks: list[str]) -> None:
        # By keyword: a router can read the provider (task_routes).
        message = {"pks": pks, "provider": provider, "within": within}
        refresh_connections.apply_async(kwargs=message, expires=expires)

    return dispatch.dispatch_due(enqueue, providers=providers, within=within, chunk=chunk, limit=limit)
