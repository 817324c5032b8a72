"""Celery tasks that refresh due connections (extra ``celery``).

Add this module to the app's ``include``, so that Celery finds the tasks (docs/tasks.md). A task does not
retry, because the next dispatch sends its connections again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from oauth_connect.jobs.refresh import dispatch

try:
    from celery import shared_task
except ImportError as error:
    raise ImportError(
        "oauth_connect.contrib.celery needs Celery: pip install 'django-oauth-connect[celery]'."
    ) from error

EXPIRES = 300  # seconds after which a message is dropped unread

# If a worker dies, its message returns to the queue. The next worker refreshes only what is still due.
OPTIONS = {"acks_late": True, "reject_on_worker_lost": True, "ignore_result": True}


P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _Task(Protocol[P, R_co]):
    """A task for type checkers, because Celery has no types: its arguments are those of the function."""

    name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any: ...
    def __getattr__(self, name: str) -> Any: ...  # the rest of Celery's Task


def _task(name: str) -> Callable[[Callable[P, R]], _Task[P, R]]:
    decorator: Any = shared_task(name=name, **OPTIONS)
    return decorator  # type: ignore[no-any-return]


@_task("oauth_connect.refresh_connections")
def refresh_connections(
    pks: list[str], provider: str = "", within: float = 0, workers: int = dispatch.WORKERS
) -> dict[str, int]:
    """Refresh the given connections that are still due, and return the number for each outcome."""
    return dispatch.refresh_connections(pks, provider=provider, within=within, workers=workers)


@_task("oauth_connect.dispatch_due")
def dispatch_due(
    providers: Sequence[str] = (),
    within: float = 0,
    chunk: int = dispatch.CHUNK,
    limit: int | None = None,
    expires: float = EXPIRES,
) -> int:
    """Send ``refresh_connections`` for each chunk of due connections, and return the number of connections.

    ``expires``: seconds after which a message is dropped if no worker has taken it, so that messages do not
    accumulate. Its connections are still due, and a later dispatch sends them again.
    """

    def enqueue(provider: str, pks: list[str]) -> None:
        # By keyword, so that a router can read the provider (task_routes).
        message = {"pks": pks, "provider": provider, "within": within}
        refresh_connections.apply_async(kwargs=message, expires=expires)

    return dispatch.dispatch_due(enqueue, providers=providers, within=within, chunk=chunk, limit=limit)
