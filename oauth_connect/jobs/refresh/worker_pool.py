"""A run of several workers: they do the HTTP, one writer saves, and who iterates claims and tells."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from typing import TypeVar

from django.db import Error, connections

from oauth_connect.conf import conf
from oauth_connect.engine.refresh import Need, Refresh, lease_seconds, refresh_time
from oauth_connect.engine.store import Event
from oauth_connect.jobs.refresh.availability import max_concurrency, why_unavailable
from oauth_connect.jobs.refresh.base import ALONE, Run, Share, put_off
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.outcomes import CRASHED, LEFT_AS_THEY_ARE, Result, Verdict, judged
from oauth_connect.jobs.refresh.scheduler import Job, Lane, Schedule
from oauth_connect.models import Connection, ConnectionEvent, access, ending, history, provider_state
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.transport import new_session
from oauth_connect.stores.batch import Claimed, claim_due, put_back
from oauth_connect.stores.bulk import BulkStore
from oauth_connect.stores.row import StoredRow
from oauth_connect.stores.waits import commits_by_itself
from oauth_connect.stores.writer import TOGETHER, Writer

T = TypeVar("T")
logger = logging.getLogger("oauth_connect")

AHEAD = 8  # answers that may wait for the database with every worker busy: more, and they wait long
ENTRIES = 50  # of the history are written by one statement
SICK = 5  # failures in a row that speak for the provider, not for the connections


class Crew(Run):
    """The workers of a run. They hold no database connection while HTTP runs."""

    def __init__(self, due: Due, workers: int, at_most: int | None = None, share: Share = ALONE) -> None:
        super().__init__(due, None if at_most is None else share.of(at_most))
        self.share = share
        self.workers = share.of(workers)
        self.lanes = self._lanes()
        self.schedule = Schedule(self.lanes, self.workers + AHEAD)
        self.done: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.outstanding = 0
        self.dropped: list[Claimed] = []
        self.history: list[ConnectionEvent] = []
        self.problem: BaseException | None = None
        self.leeway = conf.refresh_leeway
        self.timeout = conf.http_timeout
        self.lease = lease_seconds(self.timeout)
        self.again = due.horizon + timedelta(seconds=self.lease)

    def stop(self) -> None:
        super().stop()
        self.schedule.stop()
        self.done.put(None)  # wakes who waits for the next result

    def __iter__(self) -> Iterator[Result]:
        with ExitStack() as stack:
            self.writer = stack.enter_context(Writer(Connection, self.due.alias))
            self.transport = stack.enter_context(new_session(self.workers))
            stack.enter_context(self._at_work())
            self._fill()
            while self.outstanding:
                job = self.done.get()
                if job is not None:
                    yield self._concluded(job)
                self._fill()
        if self.problem is not None:
            raise self.problem

    # --- who iterates: claims, and tells ----------------------------------------------------------

    def _lanes(self) -> list[Lane]:
        slugs = [slug for slug in self.due.providers() if why_unavailable(slug, self.due.alias) is None]
        # Of several providers none takes all: one that hangs must not hold up the others.
        most = self.workers if len(slugs) < 2 else max(1, self.workers // 2)
        ill = provider_state.ill_lately(self.due.alias)
        alarmed = provider_state.alarmed(self.due.alias)
        limits = {
            slug: min(most, self.share.of(max_concurrency(slug, most * self.share.among))) for slug in slugs
        }
        return [
            Lane(slug, limit, conf.has_one_client(slug), slug in ill, slug in alarmed)
            for slug, limit in limits.items()
            if limit
        ]

    def _fill(self) -> None:
        """Claim what the workers will soon have room for."""
        if self.stopping:
            self._drop()
            return
        low = [lane for lane in self.lanes if lane.runs_low]
        for lanes_left, lane in zip(count(len(low), -1), low, strict=False):
            at_most = lane.room if self.left is None else min(lane.room, -(-self.left // lanes_left))
            if at_most > 0:
                self._claim(lane, at_most)

    def _claim(self, lane: Lane, at_most: int) -> None:
        rows = self.due.of(lane.provider)
        lane.serving = None  # what its issuer says may have changed since
        try:
            claim = partial(
                claim_due, rows, at_most, seconds=self.lease, again=self.again, index=self.due.index
            )
            catch = self._here(claim)
            # Another run took all that was seen. It is no longer due, so the next look sees others.
            while not (catch.claimed or catch.last or self.stopping):
                catch = self._here(claim)
        except Error as error:
            self.problem = error
            self.stop()
            return
        lane.exhausted = catch.last
        self.outstanding += len(catch.claimed)
        if self.left is not None:
            self.left -= len(catch.claimed)
            lane.exhausted = lane.exhausted or not self.left
        self.schedule.add(Job(lane, claimed) for claimed in catch.claimed)
        self._hire()

    def _drop(self, lane: Lane | None = None) -> None:
        """Free the leases of what no worker has begun."""
        dropped = [job.claimed for job in self.schedule.drop(lane)]
        self.outstanding -= len(dropped)
        self.dropped += dropped
        while self.dropped:  # what others save meanwhile goes in between
            self._quietly(partial(put_back, self.dropped[:TOGETHER]))
            del self.dropped[:TOGETHER]  # not before: Ctrl-C may cut this off, and it is taken again

    def _concluded(self, job: Job) -> Result:
        self.outstanding -= 1
        self.schedule.settled()
        connection = job.claimed.row
        verdict = self._verdict(job)
        self._watch(job.lane, verdict, job.error)
        if verdict.outcome == "refreshed":
            self._follow(job)
        for event in job.heard:
            self.history += history.of_refresh(connection, event)
            self._alarm(job.lane, connection, event)
            access.tell(connection, event)
        if len(self.history) >= ENTRIES:
            self._write_history()
        return Result(verdict.outcome, verdict.code, connection.provider, connection.pk)

    def _write_history(self) -> None:
        entries, self.history = self.history, []
        self._here(partial(history.write, entries))

    def _verdict(self, job: Job) -> Verdict:
        if job.error is None:
            saved = any(event.action == "refreshed" for event in job.heard)
            return Verdict("refreshed" if saved else "not_needed")
        verdict = judged(job.error)
        if verdict == CRASHED:
            logger.error("a refresh crashed", exc_info=job.error, extra={"action": "refresh_crashed"})
        return verdict

    def _follow(self, job: Job) -> None:
        try:
            access.follow_instance(job.claimed.row)
        except Exception:
            logger.exception(
                "what an answer says of its instance was lost", extra={"action": "follow_failed"}
            )

    def _alarm(self, lane: Lane, connection: Connection, event: Event) -> None:
        """Begin the provider's alarm once, and end it once, however many connections meet the change."""
        right = event.action == "refreshed"
        # Where they are not alike, one that takes its client says nothing of another's.
        if lane.alarmed is right and (event.alarm or (right and lane.alike)):
            lane.alarmed = not right
            access.alarm(connection, event)

    def _watch(self, lane: Lane, verdict: Verdict, error: BaseException | None) -> None:
        """Count failures in a row: a provider that is ill is left alone for a while, by all machines."""
        if not lane.alike:
            return
        if verdict.outcome == "refreshed":
            lane.failures_in_a_row = 0
            if lane.recovering:
                lane.recovering = False
                self._quietly(lambda: provider_state.recovered(self.due.alias, lane.provider))
        elif verdict.outcome in {"unavailable", "misconfigured"}:
            lane.failures_in_a_row += 1
            if lane.failures_in_a_row == SICK:
                asked = getattr(error, "retry_after", None)
                self._drop(lane)
                provider = conf.declared_provider(lane.provider)
                self._quietly(lambda: provider_state.back_off(self.due.alias, provider, asked))

    def _here(self, statement: Callable[[], T]) -> T:
        """Run a statement on the connection of who iterates, so that no save waits behind it.

        Unless that is in a transaction by now: nothing of a run may share its fate.
        """
        if commits_by_itself(connections[self.due.alias]):
            return statement()
        return self.writer.run(statement)

    def _quietly(self, statement: Callable[[], object]) -> None:
        """Write what would be nice to have written: leases run out, and a back-off is found out again."""
        try:
            self.writer.run(statement)
        except Exception:
            logger.warning("a run could not tidy up", exc_info=True, extra={"action": "tidy_failed"})

    # --- the workers ------------------------------------------------------------------------------

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Whatever ends the block: what was not sent is freed, what is under way is finished and told.

        Nothing that is raised meanwhile ends that, neither a fault nor Ctrl-C: a token may be on its way.
        """
        try:
            yield
        except BaseException as error:
            self._note(error)
        for step in (self._drop, self.schedule.end, self._conclude, self._write_history, self._see_off):
            self._insist(step)

    def _insist(self, step: Callable[[], object]) -> None:
        """Take a step; one that is cut off is taken again."""
        while True:
            try:
                step()
            except Exception as error:
                self._note(error)
            except BaseException as error:
                self._note(error)
                continue
            return

    def _note(self, error: BaseException) -> None:
        """Keep what is raised when all is done: the first fault, unless somebody wants it to end."""
        other: BaseException | None = error
        if self.problem is None or not isinstance(error, Exception):
            self.problem, other = error, self.problem
        if isinstance(other, Exception):
            logger.error("a run met another fault", exc_info=other, extra={"action": "refresh_crashed"})

    def _conclude(self) -> None:
        """Wait for what is under way. By the schedule's count: Ctrl-C may have put ours out."""
        while self.schedule.is_busy or not self.done.empty():
            job = self.done.get()
            try:
                if job is not None:
                    self._concluded(job)
            except Exception as error:
                self._note(error)

    def _see_off(self) -> None:
        for thread in self.threads:
            if thread.is_alive():  # else it may never have been started
                thread.join()

    def _hire(self) -> None:
        """Have as many workers as there is work for."""
        while len(self.threads) < min(self.workers, self.outstanding):
            name = f"oauth_connect-refresh-{len(self.threads)}"
            self.threads.append(threading.Thread(target=self._work, name=name))
            self.threads[-1].start()

    def _work(self) -> None:
        while (job := self.schedule.take()) is not None:
            self._carry_out(job)
        connections.close_all()

    def _carry_out(self, job: Job) -> None:
        connection = job.claimed.row
        # Noted now: a refresh changes the instance.
        version, failures = connection.version, connection.failures
        store = BulkStore(
            job.claimed,
            self.writer,
            tell=job.heard.append,
            bury=lambda token: ending.bury(connection, token),
        )
        try:
            if job.again is not None:
                job.again()
            elif self._asked(job, store):
                return  # the writer goes on with it
        except BaseException as error:  # SystemExit too, of a site's function: all would wait for this job
            job.error = error
            # What the engine heard of, it has written down.
            if not job.heard and judged(error) not in LEFT_AS_THEY_ARE:
                put_off(store, version, failures, self.due.horizon)
        self._finished(job)

    def _finished(self, job: Job) -> None:
        """Nothing is left to be done for it but to tell how it went."""
        self.done.put(job)
        if self.schedule.finished():
            self.done.put(None)  # wakes who waits for more

    def _asked(self, job: Job, store: BulkStore) -> bool:
        """Ask for a new token and hand it to the writer; False where there is none to be saved."""
        owner = job.claimed.owner
        try:
            seen, provider = self._prepared(job, store)
            need = Need(self.leeway, newer_than=seen.version, patient=False)
            session = None if provider.guard else self.transport
            with AuthorizationServer(provider, timeout=self.timeout, session=session) as server:
                refresh = Refresh(store, server, need, leeway=self.leeway)
                fresh = refresh.ask(seen, owner, job.claimed.claimed_at)
        finally:
            self.schedule.answered(job)
        if fresh is None:
            return False

        def saved(present: StoredRow | None) -> None:
            if present is not None:
                refresh.saved(seen, present)
                self._finished(job)
            else:
                job.again = partial(refresh.save, seen, owner, fresh)
                self.schedule.again(job)

        store.save_soon(seen, owner, fresh, refresh_time(fresh, self.leeway), saved)
        return True

    def _prepared(self, job: Job, store: BulkStore) -> tuple[StoredRow, Provider]:
        """Return what is needed to ask; what goes wrong here frees the lease."""
        try:
            return store.seen(), job.lane.serving or self._serving(job)
        except Exception:
            store.release(job.claimed.owner)
            raise

    def _serving(self, job: Job) -> Provider:
        """Return the provider at which this connection is; for all of a lane, where they are alike."""
        try:
            access.usable_provider(job.claimed.row)
            provider = access.serving_provider(job.claimed.row)
        finally:
            connections.close_all()  # PROVIDER_LOADER may have asked; not held while HTTP runs
        if job.lane.alike:
            job.lane.serving = provider
        return provider
