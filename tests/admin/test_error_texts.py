"""Every code that a connection can carry is explained."""

from __future__ import annotations

import pytest

from oauth_connect.admin.error_texts import EXPLANATIONS, explanation, shown_code
from oauth_connect.protocol.grants.refusals import MISCONFIGURED, TRANSIENT


@pytest.mark.parametrize("code", sorted(TRANSIENT | MISCONFIGURED))
def test_every_code_of_the_engine_has_its_own_text(code):
    assert explanation(code) == EXPLANATIONS[code]


@pytest.mark.parametrize("code", ["revoked", "rotation_lost", "expired", "client_changed", "account_changed"])
def test_where_the_owner_is_needed_the_words_say_so(code):
    assert "owner" in explanation(code)


def test_any_other_code_has_a_general_text():
    assert "reports a temporary problem" in explanation("http_503")
    assert "refused" in explanation("some_code_of_its_own")
    assert explanation("") == ""


@pytest.mark.compliance("D60")
@pytest.mark.parametrize("said", ["<b>no</b>", "ey.J0 e", "a" * 65, "1", "see https://elsewhere.example"])
def test_a_providers_word_that_is_no_code_is_not_repeated(said):
    assert shown_code(said) == "another error"
    assert shown_code("token_revoked") == "token_revoked"
    assert shown_code("") == ""
