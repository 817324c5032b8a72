"""The refresh protocol: claim a lease, spend the refresh token once, save by compare-and-swap.

docs/refresh-protocol.md explains each rule. During HTTP the caller holds only the lease, a value in the row.
It holds no transaction, no row lock and no pooled connection.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from oauth_connect.engine.single_flight import single_flight
from oauth_connect.engine.store import (
    ACCOUNT_CHANGED,
    ACTIVE,
    REAUTHORIZATION_REQUIRED,
    REVOKED,
    Event,
    LeaseState,
    Row,
    TokenStore,
)
from oauth_connect.engine.timing import (
    LEASE_MARGIN,
    MISCONFIGURED_PAUSE,
    POLL,
    POLL_CLOSELY,
    POLL_MAX,
    lease_seconds,
    pause,
    refresh_time,
)
from oauth_connect.errors import (
    CallError,
    ProtocolError,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import error_codes, id_tokens, refusals, responses
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

# Refused without a reason for so long, a refresh token has ended, if others are accepted.
UNEXPLAINED = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Need:
    """The requirements of a caller.

    ``newer_than``: a version that is not accepted, because the API refused it or a refresh was requested.
    ``force``: send a request even during the back-off. ``wait``: wait while another caller refreshes.
    ``after_401``: the API has refused the current token.
    """

    leeway: timedelta
    newer_than: int | None = None
    force: bool = False
    wait: bool = True
    after_401: bool = False

    def met_by(self, row: Row, now: datetime) -> bool:
        if row.token is None:
            return False
        if self.newer_than is not None:
            # A carried access token is the one that the API refused, in a row of a newer version.
            is_newer = row.version > self.newer_than and not row.token.carried
            return is_newer and not row.token.is_expired(now)
        leeway = self.leeway if row.token.renewable else timedelta(0)
        return row.token.valid_for(leeway, now)

    def tolerates(self, row: Row, now: datetime) -> bool:
        """Return whether the current token is good enough while another caller refreshes it."""
        return self.newer_than is None and row.token is not None and not row.token.is_expired(now)


def error_of(row: Row, provider: Provider, now: datetime) -> CallError:
    """Return the last refresh's error, for a caller that waited for it or comes during its back-off."""
    wait = max((row.refresh_at - now).total_seconds(), 0.0) if row.refresh_at else None
    error = refusals.error_for(provider, row.last_error or "unavailable", retry_after=wait)
    if wait and isinstance(error, ProviderMisconfigured):  # the settings may have been corrected since
        later = f"An earlier request found this. The next one can be sent in {math.ceil(wait)} seconds."
        return ProviderMisconfigured(f"{error} {later}", error=error.error)
    return error


class Refresh:
    """Obtains a token that meets the need of one caller.

    ``server.timeout`` limits an exchange, in seconds. The lease lasts longer.
    """

    def __init__(
        self,
        store: TokenStore,
        server: AuthorizationServer,
        need: Need,
        *,
        leeway: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.server = server
        self.need = need
        self.leeway = leeway
        self.now = now
        self.wait_timeout = server.timeout + LEASE_MARGIN
        self.lease = lease_seconds(server.timeout)
        self.events: list[Event] = []

    def obtain(self, held: Row | None = None) -> Row:
        """Return the row with a token that meets the need, refreshed by this caller or by another one.

        ``held``: the row that the caller already has. Raises ReauthorizationRequired, ProviderUnavailable,
        ProviderMisconfigured, ProviderRejected, ConnectionLocked or KeyUnavailable.
        """
        flight = single_flight.of(self.store.key)
        before: LeaseState | None = None
        started = time.monotonic()
        if not flight.lock.acquire(blocking=False):
            if held is not None and self.need.tolerates(held, self.now()):
                return held
            if not self.need.wait:
                raise self._still_busy()
            before = self.store.peek()
            if not flight.lock.acquire(timeout=self.wait_timeout):
                raise self._still_busy()
        try:
            shared = flight.result_since(started)
            if shared is None or not self.need.met_by(shared, self.now()):
                row = self._obtain(before)
                flight.publish(row)
                return row
        finally:
            flight.lock.release()
            self._announce()
        return self._adopted(shared)

    # --- in a bulk run, under a lease that has been claimed already --------------------------------

    def ask(self, row: Row, owner: str, claimed_at: float) -> Token | None:
        """Spend the refresh token of a row that was read after its claim for ``owner``.

        Return the new token: call ``save``, or save it yourself and call ``saved``. None: nothing is left to
        save. ``claimed_at``: the monotonic clock's time before the claim. Raises the errors of ``obtain``.
        """
        try:
            result = self._ask(row, owner, claimed_at)
            if result is None:
                raise self._still_busy()
        finally:
            self._announce()
        return result if isinstance(result, Token) else None

    def save(self, row: Row, owner: str, fresh: Token) -> Row:
        """Save the token that ``ask`` returned. Raises ReauthorizationRequired if the row is gone."""
        try:
            return self._save(row, owner, fresh)
        finally:
            self._announce()

    def saved(self, row: Row, present: Row) -> Row:
        """Announce the token that ``ask`` returned, after the caller has saved it on the same conditions."""
        try:
            return self._saved(row, present)
        finally:
            self._announce()

    def _announce(self) -> None:
        events, self.events = self.events, []
        for event in events:
            self.store.announce(event)

    def _obtain(self, before: LeaseState | None) -> Row:
        deadline = time.monotonic() + self.wait_timeout
        while True:
            row = self._read()
            now = self.now()
            if self.need.met_by(row, now):
                return self._adopted(row)
            if before is not None and row.failures > before.failures:
                return self._tolerated(row, self._error_of(row, now))
            if not row.leased:
                if not self.need.force and row.failures and row.refresh_at and row.refresh_at > now:
                    return self._tolerated(row, self._error_of(row, now))
                if saved := self._try_to_lead(row):
                    return saved
            if self.need.tolerates(row, self.now()):  # again: the claim may have waited for a lock
                return self._adopted(row)
            before = row
            self._wait(row, deadline)

    # --- reading and waiting --------------------------------------------------------------------

    def _read(self) -> Row:
        row = self.store.read()
        if row is None or row.status == REVOKED:
            raise ReauthorizationRequired(
                "This account has been disconnected. Ask the user to reconnect it.",
                reason="disconnected",
            )
        if not row.usable:
            raise self._owner_inactive()
        if row.status == REAUTHORIZATION_REQUIRED:
            self.store.adopt(row)
            raise self._ended(row.last_error or "revoked")
        return row

    def _wait(self, row: Row, deadline: float) -> None:
        """Poll until the leader saved, failed, or lost its lease."""
        started = time.monotonic()
        interval = POLL
        while self.need.wait and time.monotonic() < deadline:
            time.sleep(interval * random.uniform(0.75, 1.25))  # noqa: S311
            state = self.store.peek()
            if state is None or not state.leased:
                return
            if (state.version, state.failures) != (row.version, row.failures):
                return
            if time.monotonic() - started > POLL_CLOSELY:
                interval = min(interval * 1.5, POLL_MAX)
        raise self._still_busy()

    def _still_busy(self) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"Another process is still refreshing this {self.server.provider.label} token. Try again later.",
            code="busy",
            retry_after=self.wait_timeout,
        )

    def _adopted(self, row: Row) -> Row:
        self.store.adopt(row)
        return row

    def _tolerated(self, row: Row, error: CallError) -> Row:
        """Return the current token while it is valid: then a failed refresh must not fail the call."""
        if self.need.tolerates(row, self.now()):
            return self._adopted(row)
        self.store.adopt(row)
        raise error

    # --- leading --------------------------------------------------------------------------------

    def _try_to_lead(self, row: Row) -> Row | None:
        """Claim the lease and refresh. None: another caller claimed first, read again."""
        if row.token and not row.token.renewable and not row.token.is_expired(self.now()):
            raise self._ended("no_refresh_token")
        owner = uuid.uuid4().hex
        claimed_at = time.monotonic()
        if not self.store.claim(row, owner, self.lease):
            return None
        return self._lead(row, owner, claimed_at)

    def _lead(self, row: Row, owner: str, claimed_at: float) -> Row | None:
        """Refresh under the owner's lease. None: the lease is no longer the owner's, read again."""
        result = self._ask(row, owner, claimed_at)
        if not isinstance(result, Token):
            return result
        return self._save(row, owner, replace(result, after_401=self.need.after_401))

    def _ask(self, row: Row, owner: str, claimed_at: float) -> Token | Row | None:
        """Return a new token that is not saved yet, or else the row. None: read again."""
        try:
            self._sendable(row, claimed_at)
        except Exception:
            self.store.release(owner)
            raise
        return self._renew(row, owner)

    def _sendable(self, row: Row, claimed_at: float) -> None:
        """Raise an error if no request may be sent. Up to here it is certain that nothing was sent."""
        if not row.usable:
            raise self._owner_inactive()
        if row.client_id != self.server.provider.client_id:
            raise self._ended("client_changed")
        self.store.check_writable()
        if time.monotonic() - claimed_at > self.lease - self.server.timeout - LEASE_MARGIN:
            raise self._still_busy()

    def _renew(self, row: Row, owner: str) -> Token | Row | None:
        if row.token is None or not row.token.renewable:
            return self._end(row, owner, "expired")
        return self._spend(row, owner, row.token)

    def _spend(self, row: Row, owner: str, token: Token) -> Token | Row | None:
        try:
            new = self.server.refresh(token, redirect_uri=row.redirect_uri)
        except ProviderUnavailable as error:
            seconds = self._probe_pause(row, error)
            return self._failed(row, owner, error, error.code, seconds, in_doubt=error.answer_lost)
        except ProtocolError as error:
            if reason := self._reason_to_end(row, token, error):
                return self._refused(row, owner, reason)
            if isinstance(error, ProviderMisconfigured):
                return self._failed(row, owner, error, error.code, MISCONFIGURED_PAUSE, alarm=True)
            return self._failed(row, owner, error, error.code, pause(row.failures + 1, None))
        return self._received(row, owner, token, new)

    def _reason_to_end(self, row: Row, token: Token, error: ProtocolError) -> str:
        """Return why a refusal has ended the grant. Empty: it has not, or that is not certain."""
        if error.code in self.server.provider.refresh.ended_errors:
            return "revoked"
        if error.code == refusals.REFUSED_WITHOUT_REASON and self._is_unexplained(row, token):
            return refusals.REFUSED_WITHOUT_REASON
        return ""

    def _is_unexplained(self, row: Row, token: Token) -> bool:
        """Return whether the refusals without a reason concern this refresh token, and not the request.

        The access token is over, there was no other answer for a day, and the provider has since refreshed
        another token of this client.
        """
        since, now = row.error_since, self.now()
        if row.last_error != refusals.REFUSED_WITHOUT_REASON or since is None:
            return False
        if not token.is_expired(now) or now - since < UNEXPLAINED:
            return False
        return self.store.refreshed_another(row.client_id, since)

    def _received(self, row: Row, owner: str, token: Token, new: Token) -> Token | Row:
        """Return the new token of a usable response, else the row. ``token``: the one that was spent."""
        claim = id_tokens.differing_claim(self.server.provider, token, new)
        if claim == "sub":
            return self._account_changed(row, owner, token, new)
        if claim is not None:
            return self._misconfigured(row, owner, token, new, id_tokens.MISMATCHES[claim])
        return self._unusable(row, owner, new) if new.carried else new

    def _account_changed(self, row: Row, owner: str, token: Token, new: Token) -> Row:
        """Keep the new refresh token of another account, and mark the connection, in one statement.

        The refresh token is only ever sent to be revoked. Two statements would leave it in an active row.
        """
        kept = _with_refresh_token_of(new, token)
        if self.store.save(row, owner, kept, None, reason=ACCOUNT_CHANGED) is None:
            return self._overtaken(new, account_changed=True)
        self.events.append(Event("reauthorization_required", ACCOUNT_CHANGED))
        return self._saved_by_another()  # raises, unless another process has just saved a token

    def _misconfigured(self, row: Row, owner: str, token: Token, new: Token, code: str) -> Row:
        """Keep only the new refresh token: by its ID token, the settings do not fit the provider any more."""
        error = refusals.error_for(self.server.provider, code)
        carried = _with_refresh_token_of(new, token)
        if carried is token:
            return self._failed(row, owner, error, code, MISCONFIGURED_PAUSE, alarm=True)
        return self._carry(row, owner, carried, error, MISCONFIGURED_PAUSE, alarm=True)

    def _unusable(self, row: Row, owner: str, token: Token) -> Row:
        """Save the new refresh token of a response that was unusable otherwise."""
        provider = self.server.provider
        entry = provider.slug
        why = (
            "only its refresh token is usable, and it was saved. If that happens each time, its access_token "
            f"or token_type is not where or what {entry}.token_response.fields and .token_types say, or the "
            f"provider needs a scope in a refresh: {entry}.token_request.refresh_params.scope"
        )
        error = responses.unreadable(provider, why)
        return self._carry(row, owner, token, error, pause(row.failures + 1, None))

    def _carry(
        self,
        row: Row,
        owner: str,
        token: Token,
        error: ProtocolError | ProviderUnavailable,
        seconds: float,
        *,
        alarm: bool = False,
    ) -> Row:
        """Save an old access token with a new refresh token. It is a failed refresh.

        It counts as a failure because otherwise each waiting caller would refresh next.
        """
        until = self.now() + timedelta(seconds=seconds)
        saved = self.store.save(row, owner, token, until, failure=error_codes.stored(error.code))
        if saved is None:
            return self._overtaken(token)
        self.events.append(Event("refresh_failed", error.code, alarm, endpoint=error.endpoint))
        return self._tolerated(saved, error)

    def _probe_pause(self, row: Row, error: ProviderUnavailable) -> float:
        """Return the seconds until the next try: fewer while the provider may still accept a spent token."""
        # The back-off starts again with the first lost response, however many failures came before it.
        failures = 1 if error.answer_lost and not row.in_doubt else row.failures + 1
        seconds = pause(failures, error.retry_after)
        grace = self.server.provider.refresh.grace_seconds
        if grace and (error.answer_lost or row.in_doubt):
            return min(seconds, grace / 4)
        return seconds

    def _save(self, row: Row, owner: str, fresh: Token) -> Row:
        saved = self.store.save(row, owner, fresh, refresh_time(fresh, self.leeway))
        return self._overtaken(fresh) if saved is None else self._saved(row, saved)

    def _overtaken(self, fresh: Token, *, account_changed: bool = False) -> Row:
        """Return the row after a save that found another version: its user has reconnected or disconnected.

        The new token belongs to the grant before that, and must be revoked some day.
        """
        self.store.orphaned(fresh, account_changed=account_changed)
        return self._saved_by_another()

    def _saved_by_another(self) -> Row:
        """Return the row that another process has saved. Raises if it is gone, marked, or not good enough."""
        row, now = self._read(), self.now()
        if row.token is not None and row.token.carried and not self.need.met_by(row, now):
            return self._tolerated(row, self._error_of(row, now))
        return self._adopted(row)

    def _saved(self, row: Row, present: Row) -> Row:
        # The failures of this row may have raised an alarm about the settings. Its first success ends it.
        alarm = row.failures > 0
        before = row.token.scopes if row.token else None
        self.events.append(Event("refreshed", alarm=alarm, scopes_before=before))
        return self._adopted(present)

    def _failed(
        self,
        row: Row,
        owner: str,
        error: CallError,
        code: str,
        seconds: float,
        *,
        in_doubt: bool = False,
        alarm: bool = False,
    ) -> Row:
        until = self.now() + timedelta(seconds=seconds)
        self.store.defer(row, owner, code=error_codes.stored(code), until=until, in_doubt=in_doubt)
        self.events.append(Event("refresh_failed", code, alarm, endpoint=error.endpoint))
        return self._tolerated(row, error)

    def _refused(self, row: Row, owner: str, reason: str) -> Row | None:
        """Handle ``invalid_grant``. Another process may have spent the token first and saved a new one."""
        present = self.store.read()
        if present is None or present.status != ACTIVE or present.version != row.version:
            self.store.release(owner)
            return self._saved_by_another()
        return self._end(row, owner, "rotation_lost" if present.in_doubt else reason)

    def _end(self, row: Row, owner: str, reason: str) -> Row | None:
        """Mark that the user must reconnect. None: the lease is no longer the owner's, read again."""
        if not self.store.mark(row, owner, reason):
            self.store.release(owner)
            return None
        self.events.append(Event("reauthorization_required", reason))
        return self._saved_by_another()  # raises, unless another process has just saved a token

    def _error_of(self, row: Row, now: datetime) -> CallError:
        return error_of(row, self.server.provider, now)

    def _owner_inactive(self) -> ReauthorizationRequired:
        return ReauthorizationRequired(
            "The user of this connection has been deactivated. Nothing was sent.",
            reason="owner_inactive",
        )

    def _ended(self, reason: str) -> CallError:
        provider = self.server.provider
        why = {
            "rotation_lost": "the response to a refresh may have been lost",
            "expired": "the token has expired and there is no refresh token",
            "no_refresh_token": "a token without a refresh token cannot be refreshed",
            "client_changed": "the settings name another client_id than the one that obtained the token",
            refusals.REFUSED_WITHOUT_REASON: "the provider has refused its refresh token for a day",
            ACCOUNT_CHANGED: "a refresh returned the token of another account, which is not used",
        }.get(reason, "the provider no longer accepts its refresh token")
        hint = _why_no_refresh_token(provider) if reason in ("expired", "no_refresh_token") else ""
        return ReauthorizationRequired(
            f"The {provider.label} account must be connected again: {why}.{hint}", reason=reason
        )


def _with_refresh_token_of(new: Token, token: Token) -> Token:
    """Return ``token`` with the refresh token of a response, or as it is where that has no new one."""
    if new.refresh_token == token.refresh_token:
        return token
    return token.carrying(new.refresh_token, new.refresh_token_expires_at)


def _why_no_refresh_token(provider: Provider) -> str:
    """Return a sentence that names the setting that decides whether there is a refresh token."""
    for name, wrong in (("style", "none"), ("expected", "never")):
        if getattr(provider.refresh, name) == wrong:
            return f" By the setting {provider.slug}.refresh.{name}, this provider issues none."
    offline, params = f"{provider.slug}.authorize.offline_scopes", f"{provider.slug}.authorize.params"
    return f" To request one, set {offline} or {params}."
