"""The store of a row among many: claimed with others, saved together with what comes at the same time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.db import OperationalError

from oauth_connect.engine.store import Event
from oauth_connect.protocol.token import Token
from oauth_connect.stores.batch import Claimed, Save, briefly, release_claims
from oauth_connect.stores.columns import token_columns
from oauth_connect.stores.placement import Placement, is_locked
from oauth_connect.stores.row import RowStore, StoredRow
from oauth_connect.stores.writer import Writer

T = TypeVar("T")
logger = logging.getLogger("oauth_connect.stores")


class BulkStore(RowStore):
    """A RowStore whose statements run on the writer's connection: a worker needs none of its own."""

    def __init__(
        self,
        claimed: Claimed,
        writer: Writer,
        *,
        tell: Callable[[Event], None],
        bury: Callable[[Token], None],
    ) -> None:
        super().__init__(claimed.row, tell=tell, bury=bury, placed=Placement.DIRECT)
        self.claimed = claimed
        self.writer = writer

    def seen(self) -> StoredRow:
        """Return the row as it was read after its claim. Raises KeyUnavailable."""
        return self.held(usable=self.row.usable)

    def save_soon(
        self,
        seen: StoredRow,
        owner: str,
        token: Token,
        refresh_at: datetime | None,
        answer: Callable[[StoredRow | None], None],
    ) -> None:
        """Save with others, without waiting. ``answer`` gets the row; None: ``save`` must try, by itself."""
        columns = token_columns(self.row, token, refresh_at)

        def told(complete: bool | None, error: BaseException | None) -> None:
            if error is not None:
                details = {"action": "save_retried"}
                logger.warning("database failed while saving; trying again", extra=details)
            answer(self._after(seen, token, columns) if complete else None)

        self.writer.save_soon(Save(self.row.pk, seen.version, owner, columns), told)

    def release(self, owner: str) -> None:
        """Nothing was sent: the row is due as it was."""
        self._persist(lambda alias: release_claims([self.claimed]))

    def _run(self, wait: float, statement: Callable[[str], T]) -> T:
        try:
            return self.writer.run(lambda: briefly(self.alias, statement))
        except OperationalError as error:
            if not is_locked(error):
                raise
        # Somebody's transaction holds the row. The others do not wait for it, this worker does.
        return super()._run(wait, statement)
