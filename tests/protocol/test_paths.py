"""Dotted paths into documents, and what an error shows of a document."""

from __future__ import annotations

from typing import Any

import pytest

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.paths import outline, pick
from tests.protocol.providers import acme


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"sub": "abc"}, "abc"),
        ({"id": 5}, "5"),
        ({"id": 0}, "0"),
        ({"sub": "", "id": 5}, "5"),
        ({"sub": None, "id": 5}, "5"),
        ({"sub": {"id": 1}, "id": True}, ""),
        ({"id": 1.5}, ""),
        ({"id": 5.0}, "5"),
        ({"id": 2.0**53}, ""),
        ({"id": float("inf")}, ""),
        ({"data": {"user": {"id": "deep"}}}, "deep"),
        ({"data": "x"}, ""),
        ({}, ""),
    ],
)
def test_the_first_path_that_leads_to_an_id_wins(document: dict[str, Any], found: str) -> None:
    assert pick(document, ("sub", "id", "data.user.id")) == found


@pytest.mark.parametrize(
    ("document", "path", "found"),
    [
        ({"data": [{"id": "first"}]}, "data.0.id", "first"),
        ([{"id": "a"}, {"id": 7}], "1.id", "7"),
        ([["deep"]], "0.0", "deep"),
        ({"data": {"0": {"id": "a key"}}}, "data.0.id", "a key"),
        ([{"id": "a"}], "0.id+0.id", "a:a"),
        (["x"], "1", ""),
        (["x"], "-1", ""),
        (["x"], "00", ""),
        (["x"], "\u0660", ""),
        (["x"], "9" * 5000, ""),
        ([], "0", ""),
        ("text", "0", ""),
        (["x"], "x", ""),
    ],
)
def test_a_number_is_the_index_of_a_list_or_the_key_of_an_object(
    document: Any, path: str, found: str
) -> None:
    assert pick(document, [path]) == found


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"https://acme.example/id": "claim"}, "claim"),
        ({"https://acme": {"example/id": "nested"}}, "nested"),
        ({"https://acme.example/id": "claim", "https://acme": {"example/id": "nested"}}, "claim"),
        ([{"https://acme.example/id": "in a list"}], ""),
    ],
)
def test_a_key_with_dots_is_a_path_at_the_top(document: Any, found: str) -> None:
    assert pick(document, ["https://acme.example/id"]) == found


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", ".a", "a+", "+a", "a. .b", "a++b"])
@pytest.mark.parametrize(
    ("field", "entry"),
    [
        ("identity.id", lambda path: {"identity": {"id": ["sub", path]}}),
        ("identity.label", lambda path: {"identity": {"label": [path]}}),
        ("accounts.id", lambda path: {"accounts": {"id": path}}),
        ("accounts.match", lambda path: {"accounts": {"match": [path]}}),
        ("token_response.error_field", lambda path: {"token_response": {"error_field": path or "."}}),
        (
            "token_response.error_description_field",
            lambda path: {"token_response": {"error_description_field": path or "."}},
        ),
        (
            "variables.host.field",
            lambda path: {
                "variables": {"host": {"source": "token_response", "pattern": "[a-z]+", "field": path or "."}}
            },
        ),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_by_its_name(field: str, entry: Any, path: str) -> None:
    with pytest.raises(InvalidProvider, match=rf"^acme\.{field}: .* has an empty key"):
        acme(**entry(path))


@pytest.mark.parametrize("keys", [[""], ["data", " "]])
@pytest.mark.parametrize("table", ["token_response", "accounts"])
def test_an_empty_key_in_a_list_of_keys_is_refused_by_its_name(table: str, keys: list[str]) -> None:
    with pytest.raises(InvalidProvider, match=rf"^acme\.{table}\.path: has an empty key"):
        acme(**{table: {"path": keys}})


def test_an_outline_shows_the_paths_of_a_document_and_no_value() -> None:
    document = {
        "data": [{"id": "canary", "tags": []}, {"other": 1}],
        "user": {"name": None, "mail": {"work": True}},
        "canary@example.com": 1,
        "canary-" + "x" * 60: 1,
        "\x1b[31m": 1,
    }
    assert outline(document) == "data.0.id, data.0.tags, user.name, user.mail.work"


@pytest.mark.parametrize("document", [None, "text", 5, {}, []])
def test_a_document_without_keys_has_no_outline(document: Any) -> None:
    assert outline(document) == "none"


def test_an_outline_is_short() -> None:
    deep: Any = "end"
    for _ in range(2000):
        deep = {"a": deep}
    assert outline(deep) == "a.a.a.a.a"
    assert outline({f"key{number}": number for number in range(1000)}).count(",") == 20
