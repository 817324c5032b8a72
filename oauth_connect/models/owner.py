"""Whose a connection is: a user by default, or whatever a site's ``OWNER`` setting says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from oauth_connect.conf import conf

MACHINE = "machine:"  # begins the owner's key of machine tokens, and no other


@dataclass(frozen=True, slots=True)
class Owner:
    """``key`` is stored with each connection and must never change; ``label`` is shown.

    ``may_manage``: whether this request may connect and disconnect. ``user``: the owner, where it is one.
    """

    key: str
    label: str = ""
    may_manage: bool = True
    user: Any = None

    @classmethod
    def of(cls, value: Any) -> Owner:
        """Return the owner that a user, an owner or a key stands for."""
        if isinstance(value, Owner):
            return value
        if isinstance(value, str):
            return cls(value, value)
        # request.user is a lazy object: only its attributes tell what is inside.
        if isinstance(value, AbstractBaseUser) and value.pk is not None:
            return cls(f"user:{value.pk}", value.get_username(), user=value)
        # The lazy object of a request, too: see above.
        but = ", not AnonymousUser: let only signed-in users in" if _is_anonymous(value) else ""
        raise TypeError(f"An owner is a saved user, an Owner, or an owner's key{but}.")


def _is_anonymous(value: Any) -> bool:
    return getattr(value, "is_anonymous", False) is True


def owner_of(request: HttpRequest) -> Owner:
    """Return the owner whom a request acts for; only ever from the request, never from its data."""
    if conf.owner is None:
        return Owner.of(request.user)
    known: Owner | None = getattr(request, "_oauth_connect_owner", None)
    if known is None:
        known = conf.owner(request)
        if not isinstance(known, Owner):
            raise TypeError('OAUTH_CONNECT["OWNER"] must return an oauth_connect.models.Owner.')
        if known.key.startswith(MACHINE):
            raise ValueError(f'OAUTH_CONNECT["OWNER"]: keys that begin with "{MACHINE}" are the site\'s own.')
        request._oauth_connect_owner = known  # type: ignore[attr-defined]  # asked once a request
    return known
