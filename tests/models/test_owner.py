"""The owner of a connection: the values that name one, and those that are refused."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject

from oauth_connect.models import Owner

ANONYMOUS = "an owner's key, not AnonymousUser. Require a login for this view."


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (AnonymousUser(), ANONYMOUS),
        (SimpleLazyObject(AnonymousUser), ANONYMOUS),
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
