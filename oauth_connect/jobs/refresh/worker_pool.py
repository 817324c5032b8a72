"""Refreshes due connections with a pool of threads.

The threads send requests, one writer thread saves, and the iterating thread claims rows and reports results.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import TypeVar

from django.db import Error, ProgrammingError, connections

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import Need, Refresh
from oauth_connect.engine.store import Event
from oauth_connect.engine.timing import lease_seconds, refresh_time
from oauth_connect.errors import ConnectionHidden
from oauth_connect.jobs.refresh.availability import max_concurrency, why_unavailable
from oauth_connect.jobs.refresh.base import Run, defer
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import LEAVE_ROW_ALONE, Result, outcome_of, result_of
from oauth_connect.jobs.refresh.scheduler import Job, ProviderQueue, Scheduler
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.lifecycle import access, history, orphan, provider_health
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.id_tokens import MISMATCHES
from oauth_connect.protocol.net.transport import new_session
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.batch import Claimed, Leases, claim_due, free_hidden, read_claimed, release_claims
from oauth_connect.stores.bulk import BulkStore
from oauth_connect.stores.connection_state import carried, hidden, read_state
from oauth_connect.stores.lock_timeouts import commits_by_itself
from oauth_connect.stores.row import StoredRow
from oauth_connect.stores.writer import COMMIT_BATCH, Writer

T = TypeVar("T")
logger = logging.getLogger("oauth_connect")

MAX_UNSAVED = 8  # responses that may wait for the writer while every worker is busy
HISTORY_BATCH = 50  # events that one statement writes
FAILURES_BEFORE_BACKOFF = 5  # in a row: then the provider has a problem, not the connections


class WorkerPool(Run):
    """A run with worker threads. No worker holds a database connection while it sends a request."""

    def __init__(self, due: Due, workers: int, at_most: int | None = None) -> None:
        super().__init__(due, at_most)
        self.workers = workers
        self.queues = self._provider_queues()
        self.scheduler = Scheduler(self.queues, self.workers + MAX_UNSAVED)
        self.done: SimpleQueue[Job | None] = SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.outstanding = 0
        self.dropped: list[Claimed] = []
        self.history: list[ConnectionEvent] = []
        self.problem: BaseException | None = None
        self.leeway = conf.refresh_leeway
        self.timeout = conf.http_timeout
        self.lease = lease_seconds(self.timeout)
        self.retry_at = due.horizon + timedelta(seconds=self.lease)

    def stop(self) -> None:
        super().stop()
        self.scheduler.stop()
        self.done.put(None)  # wakes the iterating thread

    def __iter__(self) -> Iterator[Result]:
        with ExitStack() as stack:
            self.state = read_state(self.due.alias)
            self.writer = stack.enter_context(Writer(Connection, self.due.alias, self.state))
            self.transport = stack.enter_context(new_session(self.workers))
            stack.enter_context(self._at_work())
            self._fill()
            while self.outstanding:
                job = self.done.get()
                if job is not None:
                    yield self._finish_job(job)
                self._fill()
        if self.problem is not None:
            raise self.problem

    # --- the iterating thread: claims rows, reports results -----------------------------------------

    def _provider_queues(self) -> list[ProviderQueue]:
        slugs = [slug for slug in self.due.providers() if why_unavailable(slug, self.due.alias) is None]
        # With several providers, none gets all workers: one that hangs must not delay the others.
        most = self.workers if len(slugs) < 2 else max(1, self.workers // 2)
        failing = provider_health.recently_failing(self.due.alias)
        alarms = provider_health.alarms(self.due.alias)
        return [
            ProviderQueue(
                slug,
                min(most, max_concurrency(slug, most)),
                conf.has_one_client(slug),
                slug in failing,
                alarms.get(slug, ""),
            )
            for slug in slugs
        ]

    def _fill(self) -> None:
        """Claim rows for the workers that will soon be free."""
        if self.stopping:
            self._drop()
            return
        low = [queue for queue in self.queues if queue.needs_refill]
        for queues_left, queue in zip(count(len(low), -1), low, strict=False):
            fair = queue.free_slots if self.left is None else -(-self.left // queues_left)
            if (at_most := min(queue.free_slots, fair)) > 0:
                self._claim(queue, at_most)

    def _claim(self, queue: ProviderQueue, at_most: int) -> None:
        rows = self.due.of(queue.provider)
        queue.resolved = None  # the issuer's metadata may have changed
        try:
            claim = partial(
                claim_due, rows, at_most, seconds=self.lease, retry_at=self.retry_at, index=self.due.index
            )
            leases, found = self._claim_once(claim)
            # Another run claimed all rows that this one saw. They are no longer due, so read again.
            while not (found or leases.exhausted or self.stopping):
                leases, found = self._claim_once(claim)
        except (Error, ConnectionHidden) as error:
            self.problem = error
            self.stop()
            return
        queue.exhausted = leases.exhausted
        self.outstanding += len(found)
        if self.left is not None:
            self.left -= len(found)
            queue.exhausted = queue.exhausted or not self.left
        self.scheduler.add(Job(queue, claimed) for claimed in found)
        self._start_workers()

    def _claim_once(self, claim: Callable[[], Leases]) -> tuple[Leases, list[Claimed]]:
        leases = self._on_own_connection(claim)
        return leases, self._read_claimed(leases) if leases.count else []

    def _read_claimed(self, leases: Leases) -> list[Claimed]:
        """Return the claimed rows that the writer's connection sees; release the leases of the others.

        The writer saves the new tokens. So nothing is sent for a row that it does not see, and the run ends
        with ConnectionHidden: now if it sees none of them.
        """
        found: list[Claimed] = []
        missing: ProgrammingError | None = None
        try:
            for keys in leases.parts:
                found += self.writer.run(partial(read_claimed, leases, keys))
        except ProgrammingError as error:  # no such table in its schema, or no right to read it
            missing = error
        except BaseException:
            with suppress(Error):
                self._on_own_connection(partial(free_hidden, leases, ()))
            raise
        if len(found) < leases.count and self._on_own_connection(partial(free_hidden, leases, found)):
            if not found:
                raise hidden() from missing
            self.problem = self.problem or hidden()
        return found

    def _drop(self, queue: ProviderQueue | None = None) -> None:
        """Release the leases of jobs that no worker has started."""
        dropped = [job.claimed for job in self.scheduler.drop(queue)]
        self.outstanding -= len(dropped)
        self.dropped += dropped
        while self.dropped:  # in batches: the writer saves tokens in between
            self._best_effort(partial(release_claims, self.dropped[:COMMIT_BATCH]))
            del self.dropped[:COMMIT_BATCH]  # last: if Ctrl-C interrupts this, it is repeated

    def _finish_job(self, job: Job) -> Result:
        self.outstanding -= 1
        self.scheduler.done()
        connection = job.claimed.row
        result = result_of(connection, job.error, job.events)
        self._count_failures(job.queue, result, job.error)
        # With one client, the provider has no variables that a response could change.
        if result.outcome == "refreshed" and not job.queue.has_one_client:
            self._follow_instance(connection)
        for event in job.events:
            self.history += history.of_refresh(connection, event)
            self._update_alarm(job.queue, connection, event)
            access.publish(connection, event)
        if len(self.history) >= HISTORY_BATCH:
            self._write_history()
        return result

    def _write_history(self) -> None:
        entries, self.history = self.history, []
        self._on_own_connection(partial(history.write, entries))

    def _follow_instance(self, connection: Connection) -> None:
        try:
            access.follow_instance(connection)
        except Exception:
            logger.exception(
                "the variables of a connection could not be updated", extra={"action": "follow_failed"}
            )

    def _update_alarm(self, queue: ProviderQueue, connection: Connection, event: Event) -> None:
        """Begin or end the provider's alarm once, however many connections meet the change."""
        accepted = event.action == "refreshed"
        # Where clients differ, a success of one connection proves nothing about the others. Nor does it about
        # their ID tokens, because not every connection has one.
        proves_all = queue.has_one_client and queue.alarm not in MISMATCHES.values()
        if bool(queue.alarm) is accepted and (event.alarm or (accepted and proves_all)):
            queue.alarm = "" if accepted else event.code
            access.alarm(connection, event)

    def _count_failures(self, queue: ProviderQueue, result: Result, error: BaseException | None) -> None:
        """After several failures in a row, let all machines back off from the provider."""
        if not queue.has_one_client:
            return
        if result.outcome == "refreshed":
            queue.failures_in_a_row = 0
            if queue.recovering:
                queue.recovering = False
                self._best_effort(lambda: provider_health.recovered(self.due.alias, queue.provider))
        elif result.outcome in {"unavailable", "misconfigured"}:
            queue.failures_in_a_row += 1
            if queue.failures_in_a_row == FAILURES_BEFORE_BACKOFF:
                retry_after = getattr(error, "retry_after", None)
                self._drop(queue)
                provider = conf.declared_provider(queue.provider)
                self._best_effort(lambda: provider_health.back_off(self.due.alias, provider, retry_after))

    def _on_own_connection(self, statement: Callable[[], T]) -> T:
        """Run a statement on the iterating thread's connection, so that no save waits behind it.

        If that thread is in a transaction, use the writer: its rollback must not undo a claim.
        """
        if commits_by_itself(connections[self.due.alias]):
            return statement()
        return self.writer.run(statement)

    def _best_effort(self, statement: Callable[[], object]) -> None:
        """Run a statement whose loss does no harm: leases expire, and a back-off is detected again."""
        try:
            self.writer.run(statement)
        except Exception:
            logger.warning("a run could not clean up", exc_info=True, extra={"action": "tidy_failed"})

    # --- the workers ------------------------------------------------------------------------------

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """On leaving the block, release unsent rows, then finish and report refreshes in flight.

        No exception interrupts this, neither an error nor Ctrl-C: a new token may be on its way.
        """
        try:
            yield
        except BaseException as error:
            self._remember_error(error)
        steps = (self._drop, self.scheduler.end, self._finish_jobs, self._write_history, self._join_workers)
        for step in steps:
            self._run_uninterrupted(step)

    def _run_uninterrupted(self, step: Callable[[], object]) -> None:
        """Run a step; repeat it if an interrupt cut it off."""
        while True:
            try:
                step()
            except Exception as error:
                self._remember_error(error)
            except BaseException as error:
                self._remember_error(error)
                continue
            return

    def _remember_error(self, error: BaseException) -> None:
        """Remember the error to raise at the end: the first one, but an interrupt takes precedence."""
        other: BaseException | None = error
        if self.problem is None or not isinstance(error, Exception):
            self.problem, other = error, self.problem
        if isinstance(other, Exception):
            logger.error("a run met another error", exc_info=other, extra={"action": "refresh_crashed"})

    def _finish_jobs(self) -> None:
        """Wait for the started jobs.

        Use the scheduler's counter. Ctrl-C may have interrupted the update of ours.
        """
        while self.scheduler.is_busy or not self.done.empty():
            job = self.done.get()
            try:
                if job is not None:
                    self._finish_job(job)
            except Exception as error:
                self._remember_error(error)

    def _join_workers(self) -> None:
        for thread in self.threads:
            if thread.is_alive():  # a thread that never started cannot be joined
                thread.join()

    def _start_workers(self) -> None:
        """Start workers until there is one for each outstanding job."""
        while len(self.threads) < min(self.workers, self.outstanding):
            name = f"oauth_connect-refresh-{len(self.threads)}"
            self.threads.append(threading.Thread(target=self._work, name=name))
            self.threads[-1].start()

    def _work(self) -> None:
        with carried(self.due.alias, self.state):
            while (job := self.scheduler.take()) is not None:
                self._run_job(job)
            connections.close_all()

    def _run_job(self, job: Job) -> None:
        connection = job.claimed.row
        # Noted now: a refresh changes the instance.
        version, failures = connection.version, connection.failures
        store = BulkStore(
            job.claimed,
            self.writer,
            on_event=job.events.append,
            on_orphan=partial(orphan.keep_or_revoke, connection),
        )
        try:
            if job.save_alone is not None:
                job.save_alone()
            elif self._request(job, store):
                return  # the writer finishes the job
        except BaseException as error:  # also SystemExit of a site's function: the run waits for this job
            job.error = error
            # If the engine published an event, it has also moved the row.
            if not job.events and outcome_of(error) not in LEAVE_ROW_ALONE:
                defer(store, version, failures, self.due.horizon)
        self._finished(job)

    def _finished(self, job: Job) -> None:
        """Pass a job back to the iterating thread, which reports its result."""
        self.done.put(job)
        if self.scheduler.finished():
            self.done.put(None)  # wakes the iterating thread

    def _request(self, job: Job, store: BulkStore) -> bool:
        """Request a new token and pass it to the writer. Return False where there is nothing to save."""
        owner = job.claimed.owner
        try:
            seen, provider = self._prepared(job, store)
            need = Need(self.leeway, newer_than=seen.version, wait=False)
            session = None if provider.guard else self.transport
            with AuthorizationServer(provider, timeout=self.timeout, session=session) as server:
                refresh = Refresh(store, server, need, leeway=self.leeway)
                fresh = refresh.ask(seen, owner, job.claimed.claimed_at)
        finally:
            self.scheduler.request_finished(job)
        if fresh is None:
            return False

        def saved(present: StoredRow | None) -> None:
            if present is not None:
                refresh.saved(seen, present)
                self._finished(job)
            else:
                job.save_alone = partial(refresh.save, seen, owner, fresh)
                self.scheduler.requeue(job)

        store.save_soon(seen, owner, fresh, refresh_time(fresh, self.leeway), saved)
        return True

    def _prepared(self, job: Job, store: BulkStore) -> tuple[StoredRow, Provider]:
        """Return the row and provider for a token request. On any error, release the lease."""
        try:
            job.claimed.row.check_owner()
            return store.seen(), job.queue.resolved or self._resolved(job)
        except Exception:
            store.release(job.claimed.owner)
            raise

    def _resolved(self, job: Job) -> Provider:
        """Return the connection's provider; remember it for its queue where all connections have the same."""
        try:
            access.usable_provider(job.claimed.row)
            provider = access.resolved_provider(job.claimed.row)
        finally:
            connections.close_all()  # PROVIDER_LOADER may have queried; hold none while HTTP runs
        if job.queue.has_one_client:
            job.queue.resolved = provider
        return provider
