"""The columns that a token sets in its row, and the conditions on its lease. All writers use them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Case, F, Model, Q, Value, When

from oauth_connect import crypto
from oauth_connect.engine.store import ACTIVE, REAUTHORIZATION_REQUIRED
from oauth_connect.protocol.token import Token
from oauth_connect.stores.clock import DatabaseMilliseconds

COLUMNS = (
    "sealed_token",
    "version",
    "status",
    "client_id",
    "redirect_uri",
    "scopes",
    "expires_at",
    "refresh_at",
    "refresh_token_expires_at",
    "last_refreshed_at",
    "error_since",
    "last_error",
    "failures",
    "lease_owner",
    "lease_until",
    "in_doubt",
)
HEALTHY = {"status": ACTIVE, "error_since": None, "last_error": "", "failures": 0, "in_doubt": False}
TOKEN_COLUMNS = (
    "sealed_token",
    "scopes",
    "expires_at",
    "refresh_at",
    "refresh_token_expires_at",
    "last_refreshed_at",
    "updated_at",
)
UNLEASED = {"lease_owner": ""}
OPENED = "_opened"  # of an instance: the ciphertext that was opened last, and its token. Never pickled.


def sealed_column(model: type[Model]) -> str:
    """Return the name of a model's sealed column."""
    return getattr(model, "SEALED", "sealed_token")


def table_of(model: type[Model]) -> type[Model]:
    """Return the model that has the columns: for a proxy or a multi-table child, the model that it extends.

    One UPDATE of that table is atomic. Django makes two statements of an UPDATE of a child.
    """
    return model._meta.get_field(sealed_column(model)).model


def binding(row: Any) -> crypto.Binding:
    """Return the binding of a row's sealed value: model, column, primary key, provider."""
    return bindings(row)[0]


def bindings(row: Any) -> tuple[crypto.Binding, ...]:
    """Return the binding of a row's sealed value, then those that earlier releases used for subclasses."""
    table = table_of(type(row))
    # Not ``row.pk``: before a multi-table child is saved, that is None.
    key = str(getattr(row, table._meta.pk.attname))
    return tuple((label, sealed_column(table), key, row.provider) for label in _labels(table))


@cache
def _labels(model: type[Model]) -> tuple[str, ...]:
    """Return the label of a model, and then those of its subclasses: proxies and multi-table children."""
    subclasses = [other for other in apps.get_models() if issubclass(other, model) and other is not model]
    return tuple(one._meta.label_lower for one in (model, *subclasses))


def seal_token(row: Any, token: Token) -> str:
    return crypto.seal(token.to_dict(), binding(row))


def open_token(row: Any, sealed: str) -> Token:
    """Return the token. Raises KeyUnavailable."""
    return Token.from_dict(crypto.unseal(sealed, *bindings(row)))


def opened_token(row: Any, sealed: str) -> Token:
    """Return the token, which the instance keeps until it opens another ciphertext. Raises KeyUnavailable."""
    kept: tuple[str, Token] | None = row.__dict__.get(OPENED)
    if kept is None or kept[0] != sealed:
        kept = row.__dict__[OPENED] = (sealed, open_token(row, sealed))
    return kept[1]


def token_columns(row: Any, token: Token, refresh_at: datetime | None) -> dict[str, Any]:
    """Return the columns that a new token sets."""
    now = datetime.now(UTC)
    return {
        "sealed_token": type(row)._meta.get_field("sealed_token").to_python(seal_token(row, token)),
        "scopes": list(token.scopes),
        "expires_at": token.expires_at,
        "refresh_at": refresh_at,
        "refresh_token_expires_at": token.refresh_token_expires_at,
        "last_refreshed_at": now,
        "updated_at": now,
        **HEALTHY,
    }


def saved_columns(columns: Mapping[str, Any], owner: Any) -> dict[str, Any]:
    """Return the columns that a save sets: the token's columns, the next version, and the lease.

    It releases only the owner's lease, because another caller may have claimed meanwhile. The doubt of that
    later claim stays, unless the later caller was refused and has marked the row.
    """
    mine = Q(lease_owner=owner)
    certain = mine | Q(status=REAUTHORIZATION_REQUIRED)
    return {
        # Before status and lease_owner: MariaDB assigns from left to right.
        "in_doubt": Case(When(certain, then=Value(False)), default=F("in_doubt")),
        **{name: value for name, value in columns.items() if name != "in_doubt"},
        "lease_owner": Case(When(mine, then=Value("")), default=F("lease_owner")),
        "version": F("version") + 1,
    }


def error_columns(code: str) -> dict[str, Any]:
    """Return the columns that an error sets. ``error_since`` stays while the code is the same."""
    code = code[:64]
    same = Q(last_error=code, error_since__isnull=False)
    return {
        # Before last_error: MariaDB assigns from left to right.
        "error_since": Case(When(same, then=F("error_since")), default=Value(datetime.now(UTC))),
        "last_error": code,
    }


def free_lease() -> Q:
    """Return the condition for a claim: no lease, or a lease that has expired by the database's clock."""
    return Q(lease_owner="") | Q(lease_until__lte=DatabaseMilliseconds())


def lease_columns(owner: str, seconds: float) -> dict[str, Any]:
    """Return the columns that a claim sets. After an expired lease the token is in doubt: it may be spent."""
    return {
        # Before lease_owner: MariaDB assigns from left to right.
        "in_doubt": Case(When(~Q(lease_owner=""), then=Value(True)), default=F("in_doubt")),
        "lease_until": DatabaseMilliseconds() + int(seconds * 1000),
        "lease_owner": owner,
    }


def leased() -> Case:
    return Case(
        When(~Q(lease_owner="") & Q(lease_until__gt=DatabaseMilliseconds()), then=Value(True)),
        default=Value(False),
    )


def usable(model: type[Model]) -> Any:
    """Return an expression for whether the row's user is active. It is true if the model has no user."""
    try:
        model._meta.get_field("user").related_model._meta.get_field("is_active")  # type: ignore[union-attr]
    except FieldDoesNotExist:
        return Value(True)
    return Case(When(user__is_active=False, then=Value(False)), default=Value(True))
