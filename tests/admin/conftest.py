from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oauth_connect.models import Connection
from tests.admin.pages import Staff


@pytest.fixture
def superuser(db: None) -> Staff:
    return Staff()


@pytest.fixture
def viewer(db: None) -> Staff:
    return Staff("view_connection")


@pytest.fixture
def change() -> Callable[..., Connection]:
    """Set columns of a row past the guards of the model, as the protocol does."""

    def change(connection: Connection, **columns: Any) -> Connection:
        rows = Connection._base_manager.filter(pk=connection.pk)
        rows.update(**columns)
        return rows.get()

    return change
