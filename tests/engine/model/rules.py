"""The rules of the protocol, each as the line that keeps it and what stands there without it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from oauth_connect.engine import refresh
from oauth_connect.protocol import token
from tests.engine.model import memory
from tests.engine.model.machine import POINTS, Point, Trouble
from tests.engine.model.provider import Kind
from tests.engine.model.worker import Wish
from tests.engine.model.world import Parts

Place = Literal["engine", "store", "token"]
PLACES: dict[Place, ModuleType] = {"engine": refresh, "store": memory, "token": token}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``line`` stands once in the function ``within``, of a module of that ``place``; ``instead`` without it.

    ``without``: what is lost then, as docs/refresh-protocol.md says it. The rest: where the search
    looks for it, ``needs`` being what must go wrong, ``passing`` how much time passes while nobody comes,
    and ``points`` where workers are held up. The fewer there are of each, the sooner it is found.
    """

    name: str
    without: str
    place: Place
    within: str
    line: str
    instead: str
    kind: Kind = "strict"
    needs: tuple[Trouble, ...] = ()
    wishes: tuple[Wish, ...] = ("newer", "forced")
    passing: tuple[float, ...] = (16.0, 31.0)
    points: tuple[Point, ...] = POINTS

    def taken_out(self) -> Parts:
        """Return the parts with this rule alone missing. AssertionError: the source has changed."""
        module = PLACES[self.place]
        source = inspect.getsource(module)
        function = self._function(module)
        assert source.count(function) == 1, f"{self.within} stands there twice"
        assert function.count(self.line) == 1, f"{self.name}: {self.line!r} is not in {self.within}"
        copy = ModuleType(module.__name__)
        vars(copy).update(vars(module))
        code = source.replace(function, function.replace(self.line, self.instead))
        exec(compile(code, f"<without: {self.name}>", "exec"), vars(copy))  # noqa: S102
        match self.place:
            case "engine":
                return Parts(engine=copy)
            case "store":
                return Parts(store=copy.MemoryStore, row=copy.MemoryRow)
            case "token":
                return Parts(after=copy.Token.after)

    def hints(self) -> dict[str, Any]:
        """Return where a LeaseProtocol is to look."""
        return {
            "kinds": (self.kind,),
            "troubles": self.needs,
            "wishes": self.wishes,
            "passing": self.passing,
            "points": self.points,
        }

    def _function(self, module: ModuleType) -> str:
        found: object = module
        for name in self.within.split("."):
            found = getattr(found, name)
        return inspect.getsource(found)  # type: ignore[arg-type]


RULES = (
    Rule(
        name="a claim needs the version that was read",
        without="a worker that read before the last save spends the same refresh token again",
        place="store",
        within="MemoryStore.claim",
        line="if row.version != seen.version:",
        instead="if False:",
        passing=(),
        points=("claim", "end"),
    ),
    Rule(
        name="a claim needs a connection that is still active",
        without="a worker that read before the mark sends a request for a connection that has ended",
        place="store",
        within="MemoryStore.claim",
        line="if row.status != seen.status:",
        instead="if False:",
        needs=("revoked there",),
        passing=(),
        points=("claim", "end"),
    ),
    Rule(
        name="a claim needs that no refresh has failed since the row was read",
        without="every caller that had read the row before asks a provider that is down",
        place="store",
        within="MemoryStore.claim",
        line="if row.failures != seen.failures:",
        instead="if False:",
        needs=("provider ill",),
        passing=(),
        points=("claim", "end"),
    ),
    Rule(
        name="a lease that has not expired is respected",
        without="two workers spend one refresh token",
        place="store",
        within="MemoryStore.claim",
        line="if row.is_leased():",
        instead="if False:",
        passing=(),
        points=("claim", "send"),
    ),
    Rule(
        name="a lease expires",
        without="after one crash no worker refreshes any more",
        place="store",
        within="MemoryStore.claim",
        line="if row.is_leased():",
        instead="if row.lease_owner:",
        needs=("crash",),
    ),
    Rule(
        name="only the database's clock decides whether a lease has expired",
        without="a machine that is ten minutes fast takes live leases and spends their refresh token again",
        place="store",
        within="MemoryRow.is_leased",
        line="self.lease_until > self.clock.seconds",
        instead="self.lease_until > self.clock.seconds + self.clock.skew",
        needs=("wrong clock",),
    ),
    Rule(
        name="no worker refreshes without the lease, however long it waits",
        without="a worker that waited long enough spends the holder's refresh token, or waits for ever",
        place="engine",
        within="Refresh._wait",
        line="raise self._still_busy()",
        instead="return",
    ),
    Rule(
        name="no request begins when the lease is nearly over",
        without="a delayed worker sends the token that its successor has spent",
        place="engine",
        within="Refresh._sendable",
        line="if time.monotonic() - claimed_at > self.lease - self.server.timeout - LEASE_MARGIN:",
        instead="if False:",
        points=("check_writable", "end"),
    ),
    Rule(
        name="a worker releases only its own lease",
        without="a delayed worker releases its successor's lease, and a third spends the same token",
        place="store",
        within="MemoryStore.release",
        line="if self.row.lease_owner == owner:",
        instead="if True:",
        passing=(),
        points=("check_writable", "send"),
    ),
    Rule(
        name="a failure releases only the worker's own lease",
        without="a late failure releases the successor's lease, and a third worker spends the same token",
        place="store",
        within="MemoryStore.defer",
        line="if row.lease_owner != owner:",
        instead="if False:",
        needs=("provider ill",),
        wishes=("forced",),
        passing=(),
        points=("send",),
    ),
    Rule(
        name="a worker that sent nothing releases the lease",
        without="no worker refreshes until the lease has expired, and the next claim is in doubt",
        place="engine",
        within="Refresh._ask",
        line="self.store.release(owner)",
        instead="pass",
        needs=("other client", "no key"),
    ),
    Rule(
        name="before a token is spent, the worker proves that it can seal one",
        without="the new token cannot be saved and is lost",
        place="engine",
        within="Refresh._sendable",
        line="self.store.check_writable()",
        instead="pass",
        needs=("no key",),
    ),
    Rule(
        name="a token is sent only for the client that obtained it",
        without="the provider refuses it, and a working connection is marked",
        place="engine",
        within="Refresh._sendable",
        line="if row.client_id != self.server.provider.client_id:",
        instead="if False:",
        needs=("other client",),
    ),
    Rule(
        name="a late response is saved while the version is the one read",
        without="the response to a worker slower than its lease is dropped, and its token is lost",
        place="store",
        within="MemoryStore.save",
        line="if not (same or mine):",
        instead="if not mine:",
    ),
    Rule(
        name="a response is saved while the worker holds the lease",
        without="after a consent without a refresh token, the response in flight is dropped and lost",
        place="store",
        within="MemoryStore.save",
        line="if not (same or mine):",
        instead="if not same:",
        needs=("consent again",),
        passing=(),
        points=("write", "end"),
    ),
    Rule(
        name="a response is not saved when neither is true",
        without="an older refresh overwrites the token of a reconnect, or restores a disconnected row",
        place="store",
        within="MemoryStore.save",
        line="if not (same or mine):",
        instead="if False:",
        needs=("reconnect",),
    ),
    Rule(
        name="a save releases only the worker's own lease",
        without="a late save releases the successor's lease, and the successor's newer token is lost",
        place="store",
        within="MemoryStore.save",
        line="if mine:",
        instead="if True:",
        kind="grace",
        wishes=("forced",),
        passing=(),
        points=("write",),
    ),
    Rule(
        name="a save changes the version",
        without="a worker that read the row before spends its refresh token again",
        place="store",
        within="MemoryRow.put",
        line="self.version += 1",
        instead="pass",
    ),
    Rule(
        name="a save removes a mark",
        without="the row holds a working token, and the user is asked to reconnect",
        place="store",
        within="MemoryRow.put",
        line="self.status = ACTIVE",
        instead="pass",
        passing=(),
        points=("write", "end"),
    ),
    Rule(
        name="if the response has no refresh token, the old one stays",
        without="the refresh token is lost",
        place="token",
        within="Token.after",
        line="refresh_token=self.refresh_token or previous.refresh_token",
        instead="refresh_token=self.refresh_token",
        kind="lasting",
    ),
    Rule(
        name="a token that was issued for a disconnected row is revoked",
        without="it stays valid at the provider, and no row knows it",
        place="store",
        within="MemoryStore.orphaned",
        line="self.row.revoked.append(token)",
        instead="pass",
        needs=("disconnect",),
    ),
    Rule(
        name="a token that was issued for a row that was connected again is kept",
        without="it stays valid at the provider after the disconnect, and no row knows it",
        place="engine",
        within="Refresh._overtaken",
        line="self.store.orphaned(fresh, account_changed=account_changed)",
        instead="pass",
        needs=("reconnect",),
    ),
    Rule(
        name="a reconnect keeps the token that it replaces",
        without="the first consent's token stays valid at the provider for ever",
        place="store",
        within="MemoryRow.replace",
        line="self.kept.append(self.token)",
        instead="pass",
        needs=("reconnect",),
    ),
    Rule(
        name="a disconnect revokes what was kept",
        without="the tokens of earlier consents stay valid at the provider for ever",
        place="store",
        within="MemoryStore.disconnect",
        line="row.revoked += row.kept",
        instead="pass",
        needs=("reconnect", "disconnect"),
    ),
    Rule(
        name="marking needs the lease",
        without="a late refusal marks a connection whose next token is in flight",
        place="store",
        within="MemoryStore.mark",
        line="if row.lease_owner != owner:",
        instead="if False:",
        wishes=("forced",),
        passing=(),
        points=("send", "write"),
    ),
    Rule(
        name="marking needs the version that was read",
        without="a connection is marked whose new token has just been saved",
        place="store",
        within="MemoryStore.mark",
        line="if row.version != seen.version:",
        instead="if False:",
        wishes=("forced",),
        passing=(),
        points=("write",),
    ),
    Rule(
        name="the row is read again before it is marked",
        without="a lost rotation is reported as a revocation",
        place="engine",
        within="Refresh._refused",
        line="present = self.store.read()",
        instead="present = row",
        needs=("crash",),
    ),
    Rule(
        name="only a refusal that ends the grant marks a connection",
        without="wrong settings mark every connection",
        place="engine",
        within="Refresh._reason_to_end",
        line="if error.code in self.server.provider.refresh.ended_errors:",
        instead="if True:",
        needs=("wrong settings",),
    ),
    Rule(
        name="a worker that may not mark releases the lease",
        without="no worker refreshes until the lease has expired, and the next claim is in doubt",
        place="engine",
        within="Refresh._end",
        line="self.store.release(owner)",
        instead="pass",
        passing=(),
        points=("write",),
    ),
    Rule(
        name="no request is sent for a marked connection",
        without="a provider is asked for ever about grants that have ended",
        place="engine",
        within="Refresh._read",
        line="if row.status == REAUTHORIZATION_REQUIRED:",
        instead="if False:",
        needs=("revoked there",),
    ),
    Rule(
        name="a claim over an unfinished lease is in doubt",
        without="after a crash, a lost rotation is reported as a revocation",
        place="store",
        within="MemoryStore.claim",
        line="row.in_doubt = True",
        instead="pass",
        needs=("crash",),
    ),
    Rule(
        name="a lost response is in doubt",
        without="a lost rotation is reported as a revocation",
        place="engine",
        within="Refresh._spend",
        line="in_doubt=error.answer_lost",
        instead="in_doubt=False",
        needs=("answer lost",),
    ),
    Rule(
        name="a save ends the doubt",
        without="a revocation is reported as a lost rotation",
        place="store",
        within="MemoryRow.put",
        line="self.in_doubt = False",
        instead="pass",
        needs=("request lost", "revoked there"),
        wishes=("forced",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a save does not end a doubt that came with a later claim",
        without="a lost rotation is reported as a revocation",
        place="store",
        within="MemoryStore.save",
        line="row.in_doubt = doubt",
        instead="pass",
        kind="grace",
        needs=("answer lost",),
        wishes=("forced",),
        passing=(),
        points=("write", "end"),
    ),
    Rule(
        name="a caller that waited for a refresh that failed fails as well",
        without="all that waited ask a provider that is down, one after the other",
        place="engine",
        within="Refresh._obtain",
        line="if before is not None and row.failures > before.failures:",
        instead="if False:",
        needs=("provider ill",),
        passing=(),
        points=("send",),
    ),
    Rule(
        name="no caller sends a request during the back-off",
        without="every caller asks a provider that is down",
        place="engine",
        within="Refresh._obtain",
        line="if not self.need.force and row.failures and row.refresh_at and row.refresh_at > now:",
        instead="if False:",
        needs=("provider ill",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a token that is still valid is used",
        without="a failed refresh fails calls that needed no refresh",
        place="engine",
        within="Need.tolerates",
        line="return self.newer_than is None and",
        instead="return False and",
        needs=("provider ill",),
        wishes=("valid",),
        passing=(80.0,),
        points=("end",),
    ),
    Rule(
        name="a reconnect changes the version",
        without="a refresh of the old grant overwrites the new one",
        place="store",
        within="MemoryStore.reconnect",
        line="self.row.replace(token, refresh_at)",
        instead="self.row.replace(token, refresh_at)\n        self.row.version -= 1",
        needs=("reconnect",),
    ),
    Rule(
        name="a reconnect clears the lease",
        without="a refresh of the old grant overwrites the new one",
        place="store",
        within="MemoryStore.reconnect",
        line="self.row.unlease()",
        instead="pass",
        needs=("reconnect",),
    ),
    Rule(
        name="a consent without a refresh token needs the version that was read",
        without="it overwrites the valid refresh token with a spent one, and the valid one is lost",
        place="store",
        within="MemoryStore.consent_again",
        line="if row.version != seen.version:",
        instead="if False:",
        needs=("consent again",),
        passing=(),
        points=("write", "end"),
    ),
    Rule(
        name="a consent without a refresh token does not end a doubt",
        without="a lost rotation is reported as a revocation",
        place="store",
        within="MemoryStore.consent_again",
        line="row.in_doubt = doubt",
        instead="pass",
        needs=("answer lost", "consent again"),
    ),
    Rule(
        name="a disconnect changes the version",
        without="a refresh restores the disconnected row",
        place="store",
        within="MemoryStore.disconnect",
        line="row.version += 1",
        instead="pass",
        needs=("disconnect",),
    ),
    Rule(
        name="a disconnect clears the lease",
        without="a refresh restores the disconnected row",
        place="store",
        within="MemoryStore.disconnect",
        line="row.unlease()",
        instead="pass",
        needs=("disconnect",),
    ),
    Rule(
        name="a new refresh token in a response that is unusable otherwise is saved",
        without="the spent refresh token is sent next, and the user must reconnect",
        place="engine",
        within="Refresh._received",
        line="return self._unusable(row, owner, new) if new.carried else new",
        instead="""if new.carried:
            lost = responses.unreadable(self.server.provider, "nothing usable")
            return self._failed(row, owner, lost, lost.code, pause(1, None), in_doubt=True)
        return new""",
        needs=("odd answer",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="an old access token with a new refresh token is not newer",
        without="a caller that the API has refused gets the refused token again",
        place="engine",
        within="Need.met_by",
        line="and not row.token.carried",
        instead="",
        needs=("odd answer",),
        wishes=("newer",),
        passing=(),
        points=("claim", "peek", "end"),
    ),
    Rule(
        name="such a save counts as a failed refresh",
        without="each caller that waited for it refreshes next, one after the other",
        place="store",
        within="MemoryStore.save",
        line="if failure:",
        instead="if False:",
        needs=("odd answer",),
        wishes=("newer",),
        passing=(),
        points=("send", "write", "end"),
    ),
    Rule(
        name="a caller that finds such a save gets its token only if it meets the need",
        without="a caller whose own save came too late gets an access token that has expired or is not newer",
        place="engine",
        within="Refresh._saved_by_another",
        line="if row.token is not None and row.token.carried and not self.need.met_by(row, now):",
        instead="if False:",
        needs=("odd answer",),
        passing=(31.0,),
        points=("send", "receive", "end"),
    ),
    Rule(
        name="the ID token of a response is compared with the one before",
        without="the connection holds the token of another account",
        place="engine",
        within="Refresh._received",
        line="claim = id_tokens.differing_claim(self.server.provider, token, new)",
        instead="claim = None",
        needs=("other account",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a connection whose response is for another account is marked",
        without="the next refresh sends the refresh token of another account",
        place="store",
        within="MemoryStore.save",
        line="if reason:",
        instead="if False:",
        needs=("other account",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a response for another account keeps its refresh token",
        without="it stays valid at the provider, and no row knows it",
        place="engine",
        within="Refresh._account_changed",
        line="kept = _with_refresh_token_of(new, token)",
        instead="kept = token",
        needs=("other account",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a response with another issuer or audience keeps its refresh token",
        without="the spent refresh token is sent next, and the user must reconnect",
        place="engine",
        within="Refresh._misconfigured",
        line="carried = _with_refresh_token_of(new, token)",
        instead="carried = token",
        needs=("other issuer",),
        passing=(),
        points=("end",),
    ),
    Rule(
        name="a response with another issuer or audience marks nobody",
        without="wrong settings mark every connection",
        place="engine",
        within="Refresh._received",
        line="return self._misconfigured(row, owner, token, new, id_tokens.MISMATCHES[claim])",
        instead="return self._account_changed(row, owner, token, new)",
        needs=("other issuer",),
        passing=(),
        points=("end",),
    ),
)
