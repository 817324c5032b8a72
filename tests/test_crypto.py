from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.fernet import Fernet

from oauth_connect import crypto
from oauth_connect.errors import KeyUnavailable

OLD, NEW, OTHER = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
BINDING = ("oauth_connect.connection", "sealed_token", "1", "acme")


@pytest.fixture(autouse=True)
def one_key(configure) -> None:
    configure(KEYS=[OLD])


@pytest.mark.parametrize("value", ["", "text", "é😀", "\ud800", None, 0, [1, [2]], {"a": {"b": None}}])
def test_what_is_sealed_is_opened_again(value: Any) -> None:
    assert crypto.unseal(crypto.seal(value, BINDING), BINDING) == value


@pytest.mark.compliance("B3")
def test_two_seals_of_one_value_differ_and_show_nothing() -> None:
    first, second = crypto.seal("canary", BINDING), crypto.seal("canary", BINDING)
    assert first != second
    assert "canary" not in str(base64.urlsafe_b64decode(first))


@pytest.mark.compliance("D44")
@pytest.mark.parametrize("place", range(4))
def test_a_value_sealed_for_another_place_is_refused(place: int) -> None:
    elsewhere = tuple("other" if number == place else part for number, part in enumerate(BINDING))
    with pytest.raises(KeyUnavailable, match="copied"):
        crypto.unseal(crypto.seal("x", BINDING), elsewhere)


@pytest.mark.compliance("D44")
def test_a_binding_cannot_be_shifted_from_one_part_into_the_next() -> None:
    with pytest.raises(KeyUnavailable):
        crypto.unseal(crypto.seal("x", ("a", "bc")), ("ab", "c"))


@pytest.mark.compliance("D43")
def test_an_old_key_still_opens_and_the_first_one_seals(configure) -> None:
    sealed = crypto.seal("x", BINDING)
    configure(KEYS=[NEW, OLD])
    assert crypto.unseal(sealed, BINDING) == "x"
    newer = crypto.seal("y", BINDING)
    configure(KEYS=[NEW])
    assert crypto.unseal(newer, BINDING) == "y"


@pytest.mark.compliance("D43")
@pytest.mark.parametrize("keys", [[OTHER], [], None, ["x"]])
def test_a_wrong_or_missing_key_is_a_typed_error(configure, keys: Any) -> None:
    sealed = crypto.seal("x", BINDING)
    configure(KEYS=keys)
    with pytest.raises(KeyUnavailable, match="KEYS"):
        crypto.unseal(sealed, BINDING)


@pytest.mark.compliance("D43")
def test_nothing_is_sealed_without_a_key(configure) -> None:
    configure(KEYS=[])
    with pytest.raises(KeyUnavailable):
        crypto.seal("x", BINDING)


@pytest.mark.compliance("D43")
@pytest.mark.parametrize(
    "change", [lambda s: s[:-4], lambda s: s[:50] + s[54:], lambda s: s[:50] + s[50:].swapcase()]
)
def test_a_changed_ciphertext_is_refused(change) -> None:
    with pytest.raises(KeyUnavailable):
        crypto.unseal(change(crypto.seal("x" * 100, BINDING)), BINDING)


@pytest.mark.parametrize("sealed", ["", "plain", "gAAAA", "é", "\ud800", "{}"])
def test_what_is_no_ciphertext_is_refused(sealed: str) -> None:
    with pytest.raises(KeyUnavailable):
        crypto.unseal(sealed, BINDING)


@pytest.mark.parametrize(
    "plain", [b"5", b"null", b'"ab"', b"[]", b"[1]", b"[1, 2, 3]", b'{"a": 1}', b"\xff", b"x"]
)
def test_what_another_program_sealed_with_the_same_key_is_refused(plain: bytes) -> None:
    """``FERNET_KEYS`` may serve other fields of the site as well."""
    with pytest.raises(KeyUnavailable):
        crypto.unseal(Fernet(OLD).encrypt(plain).decode(), BINDING)
