"""Reading an authorization response. No sockets."""

from __future__ import annotations

import pytest

from oauth_connect.errors import CallbackRefused
from oauth_connect.protocol.grants.callback import check_issuer, read_callback
from tests.protocol.providers import acme


@pytest.mark.compliance("A3")
def test_unknown_parameters_of_an_answer_are_ignored() -> None:
    callback = read_callback([("foo", "1"), ("code", "c"), ("foo", "2"), ("state", "s")])
    assert (callback.code, callback.state) == ("c", "s")


@pytest.mark.compliance("A2")
@pytest.mark.compliance("D2")
@pytest.mark.parametrize("name", ["state", "code", "error", "iss", "error_description", "error_uri"])
@pytest.mark.parametrize("values", [("good", "evil"), ("good", "good"), ("", "good")])
def test_a_repeated_parameter_is_refused(name: str, values: tuple[str, str]) -> None:
    with pytest.raises(CallbackRefused) as refused:
        read_callback([(name, value) for value in values])
    assert refused.value.code == "repeated_parameter"


@pytest.mark.compliance("D19")
@pytest.mark.parametrize("name", ["state", "code", "error", "iss", "error_uri"])
@pytest.mark.parametrize("value", ["x" * 16_384, "a\x00b", "\ud800", "a\r\nb", "\x1b[2J", "\u202e"])
def test_a_malformed_parameter_is_refused(name: str, value: str) -> None:
    with pytest.raises(CallbackRefused) as refused:
        read_callback([(name, value)])
    assert refused.value.code == "malformed_parameter"
    assert value not in str(refused.value)


@pytest.mark.compliance("A4")
def test_an_answer_cannot_be_both_a_success_and_an_error() -> None:
    with pytest.raises(CallbackRefused):
        read_callback([("code", "c"), ("error", "access_denied"), ("state", "s")])


@pytest.mark.compliance("A2")
def test_an_empty_parameter_is_an_absent_one() -> None:
    assert read_callback([("code", ""), ("error", "access_denied")]).code == ""


@pytest.mark.parametrize(
    ("pairs", "error", "description"),
    [
        ([("error_code", "100"), ("error_message", "Not a\nvalid scope")], "100", "Not a valid scope"),
        ([("error_code", ""), ("error_message", "words")], "", "words"),
        ([("error_code", "7"), ("error", "access_denied")], "access_denied", ""),
        ([("error_code", "7"), ("code", "c")], "", ""),
        ([("error_code", "7"), ("error_description", "own")], "7", "own"),
    ],
)
def test_an_error_may_have_the_names_that_facebook_gives_it(pairs, error, description) -> None:
    found = read_callback([*pairs, ("state", "s")])
    assert (found.error, found.error_description) == (error, description)


ISSUER = "https://id.example"


@pytest.mark.compliance("A8")
@pytest.mark.compliance("D8")
@pytest.mark.parametrize(
    ("iss", "code"),
    [
        (f"{ISSUER}/", "issuer_mismatch"),
        ("https://ID.example", "issuer_mismatch"),
        ("https://evil.example", "issuer_mismatch"),
        (f" {ISSUER}", "issuer_mismatch"),
        ("", "issuer_mismatch"),
        (None, "issuer_missing"),
    ],
)
def test_an_issuer_is_compared_exactly_and_cannot_be_left_out(iss: str | None, code: str) -> None:
    provider = acme(issuer=ISSUER, authorization_response_iss_parameter_supported=True)
    with pytest.raises(CallbackRefused) as refused:
        check_issuer(provider, iss)
    assert refused.value.code == code


@pytest.mark.compliance("A8")
@pytest.mark.parametrize("advertised", [True, False])
def test_the_right_issuer_is_accepted_declared_or_not(advertised: bool) -> None:
    provider = acme(issuer=ISSUER, authorization_response_iss_parameter_supported=advertised)
    check_issuer(provider, ISSUER)


@pytest.mark.compliance("A8")
def test_a_wrong_issuer_is_refused_where_it_was_not_even_advertised() -> None:
    with pytest.raises(CallbackRefused):
        check_issuer(acme(issuer=ISSUER), "https://evil.example")


def test_an_issuer_is_not_missed_where_it_was_not_advertised() -> None:
    check_issuer(acme(issuer=ISSUER), None)
