"""Refreshes connections in background tasks: plain functions for any queue, and tasks of Django's framework.

``dispatch_task`` and ``refresh_task`` exist where Django has ``django.tasks`` (6.0 and later). For Celery see
``oauth_connect.contrib.celery``.
"""

from __future__ import annotations

from collections.abc import Sequence

import django

from oauth_connect.jobs.refresh.dispatch import CHUNK, WORKERS, dispatch_due, refresh_connections

# Available with every version of Django.
__all__ = ["dispatch_due", "refresh_connections"]

if django.VERSION >= (6, 0):
    from django.tasks import task

    @task
    def refresh_task(
        pks: list[str], provider: str = "", within: float = 0, workers: int = WORKERS
    ) -> dict[str, int]:
        """Refresh the connections that are still due."""
        return refresh_connections(pks, provider=provider, within=within, workers=workers)

    @task
    def dispatch_task(
        providers: Sequence[str] = (), within: float = 0, chunk: int = CHUNK, limit: int | None = None
    ) -> int:
        """Enqueue a ``refresh_task`` for each chunk of due connections."""

        def enqueue(provider: str, pks: list[str]) -> None:
            refresh_task.enqueue(pks, provider=provider, within=within)

        return dispatch_due(enqueue, providers=providers, within=within, chunk=chunk, limit=limit)
