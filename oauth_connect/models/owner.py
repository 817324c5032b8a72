"""The owner of a connection: a user by default, or an owner from the site's ``OWNER`` setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from oauth_connect.conf import conf

MACHINE = "machine:"  # prefix of the owner key of machine tokens, and of no other


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of connections. ``key`` is stored with each connection and must never change.

    ``label``: shown on pages. ``may_manage``: whether this request may connect and disconnect. ``user``: the
    owner, if the owner is a user.
    """

    key: str
    label: str = ""
    may_manage: bool = True
    user: Any = None

    @classmethod
    def of(cls, value: Any) -> Owner:
        """Return the owner for a user, an owner or a key."""
        if isinstance(value, Owner):
            return value
        if isinstance(value, str):
            return cls(value, value)
        # request.user is a lazy object, so check its attributes.
        if isinstance(value, AbstractBaseUser) and value.pk is not None:
            return cls(f"user:{value.pk}", value.get_username(), user=value)
        hint = ", not AnonymousUser. Require a login for this view" if _is_anonymous(value) else ""
        raise TypeError(f"An owner must be a saved user, an Owner, or an owner's key{hint}.")


def _is_anonymous(value: Any) -> bool:
    return getattr(value, "is_anonymous", False) is True


def owner_of(request: HttpRequest) -> Owner:
    """Return the owner that a request acts for. It never depends on submitted data."""
    if conf.owner is None:
        return Owner.of(request.user)
    owner: Owner | None = getattr(request, "_oauth_connect_owner", None)
    if owner is None:
        owner = conf.owner(request)
        if not isinstance(owner, Owner):
            raise TypeError('OAUTH_CONNECT["OWNER"] must return an oauth_connect.models.Owner.')
        if owner.key.startswith(MACHINE):
            raise ValueError(f'OAUTH_CONNECT["OWNER"]: keys that begin with "{MACHINE}" are reserved.')
        request._oauth_connect_owner = owner  # type: ignore[attr-defined]  # called once for each request
    return owner
