"""Corrects the connections whose owner and user are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import router

from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import ownership
from oauth_connect.models.lifecycle.ownership import Repair

# An operator must decide about these.
FAILED: tuple[Repair, ...] = ("already_connected", "no_user")
OUTCOMES: tuple[Repair, ...] = ("owner_corrected", "user_removed", "user_added", "unchanged", *FAILED)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one row."""

    connection: str
    outcome: Repair


def repair_owners(*, dry_run: bool = False) -> Iterator[Result]:
    """Correct each row, in a transaction of its own. May be stopped between two rows."""
    alias = router.db_for_write(Connection)
    for pk in [row.pk for row in ownership.mismatched(Connection, alias)]:
        yield Result(str(pk), ownership.repair(Connection, pk, alias, dry_run=dry_run))
