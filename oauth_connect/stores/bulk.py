"""Stores a token in a bulk run: the row is claimed with other rows, and saved with other tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from django.db import OperationalError

from oauth_connect.engine.store import Event
from oauth_connect.protocol.token import Token
from oauth_connect.stores.batch import ROW_WAIT, Claimed, Save, release_claims
from oauth_connect.stores.columns import token_columns
from oauth_connect.stores.lock_timeouts import bounded_transaction, is_locked
from oauth_connect.stores.row import OnOrphan, RowStore, StoredRow
from oauth_connect.stores.transactions import Placement
from oauth_connect.stores.writer import Writer

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")


class BulkStore(RowStore):
    """A RowStore that runs its statements on the writer's connection. So a worker needs no connection."""

    def __init__(
        self,
        claimed: Claimed,
        writer: Writer,
        *,
        on_event: Callable[[Event], None],
        on_orphan: OnOrphan,
    ) -> None:
        super().__init__(
            claimed.row,
            on_event=on_event,
            on_orphan=on_orphan,
            placed=Placement.CALLER,
            state=writer.state,
        )
        self.claimed = claimed
        self.writer = writer

    def seen(self) -> StoredRow:
        """Return the row as read after its claim. Raises KeyUnavailable."""
        return self.held(usable=self.row.usable)

    def save_soon(
        self,
        seen: StoredRow,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        on_result: Callable[[StoredRow | None], None],
    ) -> None:
        """Save with other tokens, without waiting. ``on_result`` gets the row, or None: then use ``save``."""
        columns = token_columns(self.row, token, refresh_at)

        def on_saved(complete: bool | None, error: BaseException | None) -> None:
            if error is not None:
                details = {"action": "save_retried"}
                logger.warning("database failed while saving; trying again", extra=details)
            on_result(self._after(seen, token, columns) if complete else None)

        self.writer.save_soon(Save(self.row.pk, seen.version, owner, columns), on_saved)

    def release(self, owner: str) -> None:
        """Release the lease of a row for which nothing was sent. It is due at its former time again."""
        self._persist(lambda alias: release_claims([self.claimed]))

    def _run(self, wait: float, statement: Callable[[str], T]) -> T:
        try:
            return self.writer.run(partial(self._in_bounded_transaction, statement))
        except OperationalError as error:
            if not is_locked(error):
                raise
        # Another transaction holds the row. This worker waits for it, so that the writer need not.
        return super()._run(wait, statement)

    def _in_bounded_transaction(self, statement: Callable[[str], T]) -> T:
        """Run a statement with a short lock timeout, because other workers wait for this connection."""
        with bounded_transaction(self.alias, ROW_WAIT):
            return statement(self.alias)
