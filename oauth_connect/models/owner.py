"""The owner of a connection: a user by default, or an owner from the site's ``OWNER`` setting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from oauth_connect.conf import conf
from oauth_connect.errors import InvalidOwner

MACHINE = "machine:"  # prefix of the owner key of machine tokens, and of no other
USER = "user:"  # prefix of the owner key of users
MAX_KEY = 255  # characters


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of connections. ``key`` is stored with each connection and must never change.

    ``label``: shown on pages. ``may_manage``: whether this request may connect and disconnect. ``user``: the
    owner, if the owner is a user; the key is then the user's. It is checked where it is used (``Owner.of``).
    ``contact``: whom a user asks who may not manage the connections; shown on pages.
    """

    key: str
    label: str = ""
    may_manage: bool = True
    user: Any = None
    contact: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.key, str):
            object.__setattr__(self, "key", _canonical(self.key))

    @classmethod
    def of(cls, value: Any) -> Owner:
        """Return the owner for a user, an owner or a key.

        Raises InvalidOwner for a key that no column can hold, and for one that is not the user's; TypeError
        for a user that is not one of AUTH_USER_MODEL.
        """
        if isinstance(value, Owner):
            return value._checked()
        if isinstance(value, str):
            return cls(value, value)._checked()
        if is_user(value) and value.pk is not None:
            return cls(key_of(value), _username(value), user=value)
        hint = ", not AnonymousUser. Require a login for this view" if _is_anonymous(value) else ""
        hint = ", not the request. Pass request.user" if isinstance(value, HttpRequest) else hint
        raise TypeError(f"An owner must be a saved user, an Owner, or an owner's key{hint}.")

    def _checked(self) -> Owner:
        _check_key(self.key)
        if self.user is None:
            return self
        if not is_user(self.user) or self.user.pk is None:
            raise TypeError("Owner(user=...) must be a saved user of AUTH_USER_MODEL.")
        if self.key != key_of(self.user):
            raise InvalidOwner(
                f"The key {self.key!r} is not that of the user. Use Owner.of(user), or leave out user=."
            )
        return self

    @property
    def user_id(self) -> Any:
        """The primary key of the user whose key this is; None if it is not a user's."""
        return user_id_of(self.key)


def is_user(value: Any) -> bool:
    """Return whether this is a user of the site: of AUTH_USER_MODEL, its proxies or its children.

    A user of another model may have the same primary key. request.user is a lazy object with that class.
    """
    return isinstance(value, get_user_model()._meta.concrete_model)  # type: ignore[arg-type]


def check_actor(value: Any) -> None:
    """Raise TypeError for an actor that is neither a user of the site nor None."""
    if value is not None and not is_user(value):
        raise TypeError(f"The actor must be a user of AUTH_USER_MODEL, not {type(value).__name__}.")


def id_of(user: Any) -> Any:
    """Return the user's primary key. A child of the user model (multi-table) may have another of its own."""
    return getattr(user, get_user_model()._meta.pk.attname)


def key_of(user: Any) -> str:
    """Return the owner's key of a user."""
    return key_of_id(id_of(user))


def key_of_id(user_id: Any) -> str:
    """Return the owner's key of the user with this primary key, however the primary key is written."""
    return f"{USER}{_one_spelling(user_id)}"


def user_id_of(key: str) -> Any:
    """Return the primary key of the user whose key this is; None if it is not a user's."""
    if not key.startswith(USER):
        return None
    try:
        return _one_spelling(key.removeprefix(USER))
    except (ValidationError, InvalidOperation):
        return None


def _one_spelling(user_id: Any) -> Any:
    """Return a user's primary key as the database returns it: 1, "1.0" and Decimal("1.00") are one number."""
    field: Any = get_user_model()._meta.pk
    while field.is_relation:
        field = field.target_field
    value = field.to_python(user_id)
    if isinstance(value, Decimal) and field.decimal_places is not None:
        return value.quantize(Decimal(1).scaleb(-field.decimal_places))
    return value


def _canonical(key: str) -> str:
    """Return the one spelling of a user's key: a UUID may be written with and without hyphens."""
    user_id = user_id_of(key)
    return key if user_id is None else key_of_id(user_id)


def _check_key(key: Any) -> None:
    """Refuse a key that a database would refuse later, after the provider has issued a token."""
    if not isinstance(key, str):
        raise TypeError(f"An owner's key must be a str, not {type(key).__name__}.")
    if not key:
        raise InvalidOwner("An owner's key must not be empty: all owners without a key would be one owner.")
    if len(key) > MAX_KEY:
        raise InvalidOwner(f"An owner's key must have at most {MAX_KEY} characters.")
    if "\0" in key or not _is_text(key):
        raise InvalidOwner("An owner's key must not contain NUL or half of a surrogate pair.")
    user_id = user_id_of(key)
    if isinstance(user_id, int) and not -(2**63) <= user_id < 2**63:
        raise InvalidOwner(
            "An owner's key names a primary key that no user can have."
        )  # SQLite: OverflowError


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _username(user: Any) -> str:
    return str(user.get_username() if hasattr(user, "get_username") else user)


def _is_anonymous(value: Any) -> bool:
    return getattr(value, "is_anonymous", False) is True


def owner_of(request: HttpRequest) -> Owner:
    """Return the owner that a request acts for. It never depends on submitted data."""
    if conf.owner is None:
        return Owner.of(request.user)
    owner: Owner | None = getattr(request, "_oauth_connect_owner", None)
    if owner is None:
        owner = _from_setting(request)
        request._oauth_connect_owner = owner  # type: ignore[attr-defined]  # called once for each request
    return owner


def _from_setting(request: HttpRequest) -> Owner:
    assert conf.owner is not None  # noqa: S101  (asked before)
    owner = conf.owner(request)
    if not isinstance(owner, Owner):
        raise TypeError('OAUTH_CONNECT["OWNER"] must return an oauth_connect.models.Owner.')
    owner = Owner.of(owner)
    if owner.key.startswith(MACHINE):
        raise InvalidOwner(f'OAUTH_CONNECT["OWNER"]: keys that begin with "{MACHINE}" are reserved.')
    visitor = getattr(request, "user", None)
    if visitor is not None and not is_user(visitor) and not _is_anonymous(visitor):
        raise TypeError("request.user must be a user of AUTH_USER_MODEL.")
    if owner.user is None and owner.key.startswith(USER):
        return _own_key(owner, visitor)
    return owner


def _own_key(owner: Owner, visitor: Any) -> Owner:
    """Return the owner with its user. A name after "user:" may be another user's primary key."""
    if not is_user(visitor) or owner.key != key_of(visitor):
        raise InvalidOwner(
            f'OAUTH_CONNECT["OWNER"]: keys that begin with "{USER}" are those of users. Return '
            "Owner.of(user), or another prefix."
        )
    return replace(owner, user=visitor)
