from __future__ import annotations

import pickle

import pytest
from django.core.exceptions import FieldError, ValidationError
from django.db import connections, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.forms import modelform_factory

from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.fields import Sealed, SealedField
from tests.support.tokens import raw
from tests.test_crypto import OTHER

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


def cell(connection: Connection, alias: str = "default") -> str:
    """What the database itself holds."""
    table = Connection._meta.db_table
    key = Connection._meta.pk.get_db_prep_value(connection.pk, connections[alias])
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT sealed_token FROM {table} WHERE id = %s", [key])  # noqa: S608
        (found,) = cursor.fetchone()
    return bytes(found).decode("ascii")


@pytest.mark.compliance("B3")
def test_the_database_holds_ciphertext(make_connection) -> None:
    connection = make_connection()
    assert cell(connection) == connection.sealed_token
    assert cell(connection).startswith("gAAAA")
    assert "access-0" not in cell(connection)


@pytest.mark.compliance("B3")
def test_two_rows_of_one_token_hold_different_ciphertexts(make_connection) -> None:
    assert cell(make_connection()) != cell(make_connection())


@pytest.mark.compliance("B3")
@pytest.mark.parametrize(
    "value",
    [
        *("plain", b"plain", "gAAAAA", 5, {"access_token": "x"}),
        Value("plain"),
        Value("plain", output_field=SealedField()),
        F("account_label"),
        Concat("account_label", Value("x")),
    ],
)
def test_a_value_or_an_expression_that_is_not_sealed_is_not_stored(make_connection, value) -> None:
    connection = make_connection()
    before = cell(connection)
    with pytest.raises(FieldError), transaction.atomic():
        raw(connection).update(sealed_token=value)
    connection.sealed_token = value
    with pytest.raises(FieldError), transaction.atomic():
        connection.save(update_fields=["sealed_token"])
    assert cell(connection) == before


def test_an_expression_that_yields_a_sealed_value_is_stored(make_connection) -> None:
    connection = make_connection()
    assert raw(connection).update(sealed_token=F("sealed_token")) == 1
    assert cell(connection) == connection.sealed_token


def test_a_bulk_update_keeps_each_rows_own_ciphertext(make_connection) -> None:
    both = [make_connection(), make_connection()]
    before = [cell(connection) for connection in both]
    QuerySet(Connection).bulk_update(both, ["sealed_token"])
    assert [cell(connection) for connection in both] == before


def test_an_empty_cell_is_none(make_connection) -> None:
    connection = make_connection()
    raw(connection).update(sealed_token=None)
    connection.refresh_from_db()
    assert connection.sealed_token is None


@pytest.mark.parametrize("value", ["plain", b"plain", "", "{}", b"\xff"])
def test_a_fixture_with_plain_text_is_refused(value) -> None:
    with pytest.raises(ValidationError, match="sealed"):
        Connection._meta.get_field("sealed_token").to_python(value)


@pytest.mark.parametrize("value", ["gAAAAAB", b"gAAAAAB", memoryview(b"gAAAAAB")])
def test_a_fixture_with_ciphertext_is_taken(value) -> None:
    assert Connection._meta.get_field("sealed_token").to_python(value) == Sealed("gAAAAAB")


@pytest.mark.compliance("D43")
def test_a_list_opens_nothing(make_connection, configure) -> None:
    made = make_connection()
    configure(KEYS=[OTHER])
    (listed,) = Connection.objects.all()
    assert (listed, str(listed), listed.has_scopes()) == (made, "scripted: 1", True)
    assert Connection.objects.count() == 1
    assert Connection.objects.values_list("sealed_token", flat=True).get() == made.sealed_token


def test_a_sealed_value_cannot_be_searched_for(make_connection) -> None:
    with pytest.raises(FieldError):
        Connection.objects.filter(sealed_token=make_connection().sealed_token).exists()


@pytest.mark.parametrize("model", [Connection, PendingRevocation])
def test_no_form_has_a_field_for_a_token(model) -> None:
    assert "sealed_token" not in modelform_factory(model, fields="__all__").base_fields


def test_a_sealed_value_stays_one_in_a_pickle() -> None:
    assert type(pickle.loads(pickle.dumps(Sealed("gAAAA")))) is Sealed  # noqa: S301
