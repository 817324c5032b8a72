"""The identity of a row: its owner, provider and account."""

from __future__ import annotations

import hashlib
import json

import pytest
from django.db import IntegrityError, transaction

from oauth_connect.models import Connection
from oauth_connect.models.row import identity_of
from tests.support.tokens import FRESH, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


def test_an_identity_is_a_hash_of_owner_provider_and_account(make_connection, user) -> None:
    connection = make_connection(account_id="42")
    parts = json.dumps([f"user:{user.pk}", "scripted", "42"])
    assert connection.identity == hashlib.sha256(parts.encode()).hexdigest()


@pytest.mark.compliance("C-collation")
@pytest.mark.parametrize("other", ["ABC", "abc ", "ábc", "abx", ""])
def test_accounts_are_compared_character_by_character(make_connection, other: str) -> None:
    first, second = make_connection(account_id="abc"), make_connection(account_id=other)
    assert first.pk != second.pk


def test_parts_of_an_identity_cannot_be_shifted() -> None:
    assert identity_of("a", "b", "c") != identity_of("a", "bc", "") != identity_of("ab", "", "c")


@pytest.mark.compliance("D57")
def test_two_users_of_one_account_have_a_connection_each(make_connection, user, other_user) -> None:
    first = make_connection(account_id="1", owner=user)
    second = make_connection(account_id="1", owner=other_user, response={**FRESH, "access_token": "other"})
    assert first.pk != second.pk
    assert stored(first).token.access_token == "access-0"


def test_one_identity_is_one_row(make_connection) -> None:
    connection = make_connection()
    with pytest.raises(IntegrityError), transaction.atomic():
        Connection.objects.bulk_create([Connection(owner="x", provider="a", identity=connection.identity)])
