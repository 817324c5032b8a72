"""The owner of a connection: the values that name one, and those that are refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from oauth_connect.errors import InvalidOwner
from oauth_connect.flows import session_for
from oauth_connect.models import Connection, ConnectionEvent, Owner
from oauth_connect.models.owner import owner_of
from tests.accounts.models import Customer, Employee, ProxyUser
from tests.servers.scripted import ScriptedServer
from tests.support.tokens import FRESH
from tests.support.visitor import Visitor

ANONYMOUS = "an owner's key, not AnonymousUser. Require a login for this view."
BAD_KEYS = pytest.mark.parametrize(
    "key", ["", "x" * 256, "a\0b", "a\ud800"], ids=["empty", "too long", "NUL", "half a surrogate pair"]
)


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (AnonymousUser(), ANONYMOUS),
        (SimpleLazyObject(AnonymousUser), ANONYMOUS),
        (HttpRequest(), "not the request. Pass request.user."),
        (None, "or an owner's key."),
        (5, "or an owner's key."),
    ],
)
def test_what_is_no_owner_is_refused_with_what_to_do(value: object, end: str) -> None:
    with pytest.raises(TypeError) as refused:
        Owner.of(value)
    assert str(refused.value).endswith(end)


def test_a_user_that_is_not_saved_is_no_owner() -> None:
    with pytest.raises(TypeError, match=r"a saved user, an Owner, or an owner's key\.$"):
        Owner.of(get_user_model()(pk=None, username="grace"))


# --- keys that no column can hold -----------------------------------------------------------------


@BAD_KEYS
def test_a_key_that_no_column_can_hold_is_refused(key: str) -> None:
    for value in (key, Owner(key), Owner(key, label="The organisation")):
        with pytest.raises(InvalidOwner):
            Owner.of(value)
    assert issubclass(InvalidOwner, ValueError)


def test_a_key_must_be_text() -> None:
    with pytest.raises(TypeError, match="must be a str"):
        Owner.of(Owner(5))  # type: ignore[arg-type]


@BAD_KEYS
@pytest.mark.django_db
def test_such_a_key_is_refused_by_every_function(scripted_provider: Any, key: str) -> None:
    for owner in (key, Owner(key)):
        with pytest.raises(InvalidOwner):
            Connection.objects.store(owner=owner, provider="scripted", token_response=FRESH)
        with pytest.raises(InvalidOwner):
            Connection.objects.for_owner(owner)
        with pytest.raises(InvalidOwner):
            session_for(owner, "scripted")
    with pytest.raises(CommandError):
        call_command("oauth_prune", owner=key, stdout=StringIO())


@BAD_KEYS
@pytest.mark.django_db
@pytest.mark.usefixtures("scripted_provider")
def test_such_a_key_of_a_request_sends_nothing(
    visitor: Visitor, scripted: ScriptedServer, configure: Callable[..., None], key: str
) -> None:
    configure(OWNER=lambda request: Owner(key))
    connect = reverse("oauth_connect:connect", kwargs={"provider": "scripted"})
    for path in (reverse("oauth_connect:connections"), connect):
        with pytest.raises(InvalidOwner):
            visitor.get(path)
    with pytest.raises(InvalidOwner):
        visitor.post(connect)
    assert not scripted.requests


@pytest.mark.django_db
@pytest.mark.parametrize("account_id", ["x" * 256, "a\0b", "a\nb"])
def test_an_account_id_that_no_column_can_hold_is_refused(
    user: Any, scripted_provider: Any, account_id: str
) -> None:
    with pytest.raises(ValueError, match="account_id"):
        Connection.objects.store(owner=user, provider="scripted", token_response=FRESH, account_id=account_id)


# --- who is a user --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_user_of_another_model_is_nobody(user: Any, make_connection: Any, scripted_provider: Any) -> None:
    make_connection()
    customer = Customer.objects.create(id=user.pk, login="mallory")
    for act in (
        Owner.of,
        Connection.objects.for_owner,
        lambda who: session_for(who, "scripted"),
        lambda who: make_connection(owner=who),
        lambda who: make_connection(connected_by=who),
        lambda who: Owner.of(Owner(f"user:{user.pk}", user=who)),
        lambda who: make_connection().disconnect(actor=who),
    ):
        with pytest.raises(TypeError):
            act(customer)
    assert set(ConnectionEvent.objects.values_list("actor", flat=True)) == {user.pk}


@pytest.mark.django_db
def test_a_visitor_of_another_model_connects_nothing(
    user: Any, rf: Any, configure: Callable[..., None]
) -> None:
    request = rf.get("/")
    request.user = Customer.objects.create(id=user.pk, login="mallory")
    with pytest.raises(TypeError):
        owner_of(request)
    configure(OWNER=lambda request: Owner("org:1"))
    with pytest.raises(TypeError, match=r"request\.user"):
        owner_of(request)


@pytest.mark.django_db
def test_proxies_and_children_of_the_user_model_are_the_user(
    make_connection: Any, scripted_provider: Any
) -> None:
    employee = Employee.objects.create(username="ada")
    user = get_user_model().objects.get(pk=employee.user_id)
    assert employee.pk != user.pk
    connection = make_connection(owner=employee)
    assert connection.user_id == user.pk
    for person in (user, ProxyUser.objects.get(pk=user.pk), employee, SimpleLazyObject(lambda: employee)):
        assert Owner.of(person).key == f"user:{user.pk}"
        assert list(Connection.objects.for_owner(person)) == [connection]
        assert session_for(person, "scripted")
    connection.disconnect(actor=employee)
    assert ConnectionEvent.objects.latest("pk").actor_id == user.pk


# --- the keys of users ----------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("write", [str, lambda pk: pk.hex, lambda pk: str(pk).upper(), lambda pk: pk])
def test_a_user_has_one_key_however_the_primary_key_is_written(
    write: Callable[[Any], Any], make_connection: Any, scripted_provider: Any
) -> None:
    pk = uuid.uuid4()
    fresh = get_user_model().objects.create(pk=write(pk), username="ada")
    connection = make_connection(owner=fresh)
    loaded = get_user_model().objects.get(username="ada")
    assert connection.owner == Owner.of(loaded).key == Owner(f"user:{write(pk)}").key == f"user:{pk}"
    assert list(Connection.objects.for_owner(loaded)) == [connection]


@pytest.mark.django_db
def test_a_key_beside_another_user_is_refused(user: Any, other_user: Any) -> None:
    assert Owner(f"user:{user.pk.hex}", user=user).key == Owner.of(user).key
    for key in ("org:1", f"user:{other_user.pk}", "machine:scripted"):
        with pytest.raises(InvalidOwner, match="not that of the user"):
            Owner.of(Owner(key, user=user))
    with pytest.raises(TypeError):
        Owner.of(Owner("org:1", user=AnonymousUser()))


@pytest.mark.django_db
def test_the_setting_returns_no_key_of_another_user(
    user: Any, other_user: Any, rf: Any, configure: Callable[..., None]
) -> None:
    """A site that builds keys from names: a name may be the primary key of another user."""
    request = rf.get("/")
    request.user = user
    configure(OWNER=lambda request: Owner(f"user:{other_user.pk}"))
    with pytest.raises(InvalidOwner, match="those of users"):
        owner_of(request)
    configure(OWNER=lambda request: Owner(f"user:{user.pk}", label="Me"))
    assert (owner_of(request).user, owner_of(request).label) == (user, "Me")
