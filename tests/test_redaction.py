"""Secrets are masked in what loggers say, in any shape they come in, and nothing else is."""

from __future__ import annotations

import ast
import copy
import io
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oauth_connect import redaction
from oauth_connect.redaction import LIBRARIES, MASK, OURS, RedactingFilter, redacted, redacted_value

pytestmark = pytest.mark.compliance("B3", "D45")

ROOT = Path(__file__).resolve().parents[1]
SECRET = "cAnary-7f3a._~+/9"
NAMES = [
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "state",
    "assertion",
    "client_assertion",
    "token",
    "password",
]
SHAPES = {
    "form": lambda name: f"a=b&{urlencode({name: SECRET})}&grant_type=x",
    "form, first": lambda name: urlencode({name: SECRET}),
    "form, not encoded": lambda name: f"body {name}={SECRET}",
    "form, in bytes": lambda name: repr(urlencode({name: SECRET}).encode()),
    "query": lambda name: f"GET https://a.example/cb?{urlencode({name: SECRET})}#end",
    "query in a query": lambda name: f"/login?next={quote('/cb?' + urlencode({'a': 'b', name: SECRET}))}",
    "JSON": lambda name: json.dumps({"a": 1, name: SECRET}),
    "JSON, compact": lambda name: json.dumps({name: SECRET}, separators=(",", ":")),
    "JSON, indented": lambda name: json.dumps({name: SECRET}, indent=2),
    "JSON in bytes": lambda name: repr(json.dumps({name: SECRET}).encode()),
    "JSON in JSON": lambda name: json.dumps({"body": json.dumps({name: SECRET})}),
    "JSON in JSON in JSON": lambda name: json.dumps(json.dumps(json.dumps({name: SECRET}))),
    "JSON, cut off": lambda name: json.dumps({name: SECRET})[:-4],
    "JSON with quotes inside": lambda name: json.dumps({name: f'a"{SECRET}'}),
    "JSON of several values": lambda name: json.dumps({name: [SECRET]}),
    "repr of a dict": lambda name: repr({name: SECRET}),
    "repr of bytes in a dict": lambda name: repr({name.encode(): SECRET.encode()}),
    "repr of pairs": lambda name: repr([("a", "b"), (name, SECRET)]),
    "repr of a call": lambda name: f"Thing({name}={SECRET!r}, a=1)",
    "capitals": lambda name: f"{name.upper()}={SECRET}",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_masked_by_its_name_in_every_shape(name, shape):
    text = shape(name)
    found = redacted(text)
    assert "7f3a" not in found
    assert MASK in found
    assert redacted(found) == found, "a second handler changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: token {SECRET}\r\nHost: a.example",
        f"Bearer {SECRET}",
        f"sent 'DPoP {SECRET}'",
        f"header Basic {SECRET}==",
        f"?authorization=Bearer%20{SECRET}",
        repr({"Authorization": f"Bearer {SECRET}"}),
        repr({"X-Shopify-Access-Token": SECRET}),
        f"Cookie: sessionid={SECRET}; a=b",
        f"clientSecret={SECRET}",
        f"accessToken: {SECRET}",
        f"https://client:{SECRET.replace('/', '')}@proxy.example/",
        f"Re-using previously supplied state {SECRET}.",
        f"subject_token={SECRET}",
        repr({"auth": ("client", SECRET)}),
        f"requests.post(url, auth=('client', '{SECRET}'))",
    ],
)
def test_credentials_are_masked_without_a_name_of_their_own(text):
    assert "7f3a" not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "refreshed github",
        'https://a.example:443 "POST /oauth/token HTTP/1.1" 200 None',
        "status code: 404, status_code=404, error_code=7",
        "token_type=Bearer&expires_in=3600&scope=repo",
        "refresh_failed github http_503: the token endpoint did not answer",
        "the state of the connection is reauthorization_required",
        json.dumps({"expires_in": 3600, "token_type": "Bearer", "code": 404, "state": None}),
        "<Parameters grant_type, refresh_token, client_id>",
        repr(["access_token", "refresh_token", "scope"]),
        repr({"grant_type": "refresh_token", "client_id": "client"}),
        repr({"WWW-Authenticate": 'Bearer error="invalid_token"'}),
        'set token_request.basic to "raw"',
        "If its tokens are bearer tokens, add it",
        repr({"auth": None, "timeout": (5, 5)}),
    ],
)
def test_nothing_else_is(text):
    assert redacted(text) == text


def test_the_rest_of_a_text_stays():
    text = f'{{"access_token": "{SECRET}", "expires_in": 3600}} for a&refresh_token={SECRET}&scope=repo'
    assert redacted(text) == (
        f'{{"access_token": "{MASK}", "expires_in": 3600}} for a&refresh_token={MASK}&scope=repo'
    )


@pytest.mark.parametrize("provider", ["my-token", "secret", "my_access_token"])
@pytest.mark.parametrize("code", ["invalid_client", "http_503", "key_unavailable"])
def test_the_error_of_a_provider_whose_name_looks_like_a_secrets_is_readable(provider, code, logger):
    for text in (
        f"{provider}: {code}.",
        f"{provider}={code}",
        repr({provider: code}),
        repr((provider, code)),
    ):
        assert redacted(text) == text
    logger.error("the settings of %s are wrong: %s", provider, code)
    assert f"the settings of {provider} are wrong: {code}" in written(logger)


@pytest.mark.parametrize("value", ["invalid_clientX", "xinvalid_client", "http_5031", "invalid_client-7f3a"])
def test_a_value_that_only_contains_a_code_is_masked(value):
    assert value not in redacted(f"my-token: {value}") + redacted(repr({"my-token": value}))


def own_messages() -> Iterator[str]:
    """Yield the texts of the package's code, without docstrings. A name stands for each value in them."""
    for path in sorted((ROOT / "oauth_connect").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        parts |= {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "acme"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
                yield node.value


def test_the_messages_of_this_package_are_readable():
    """Log and pages show a message masked: "token_request.basic to" must not look like credentials."""
    credentials = {"Basic acme"}
    masked = [text for text in own_messages() if " " in text and redacted(text) != text]
    assert set(masked) == credentials


@pytest.mark.parametrize("value", ["missing-7f3a", "expectedX", "the/7f3a", "xunknown"])
def test_a_value_that_only_begins_like_a_message_is_masked(value):
    assert value not in redacted(f"client_secret: {value}") + redacted(f"Bearer {value}")


# --- values -----------------------------------------------------------------------------------------


def test_values_are_searched_at_any_depth_and_left_as_they_were():
    value = {
        "data": [("code", SECRET), {"json": {"refresh_token": SECRET, "expires_in": 5}}],
        b"client_secret": SECRET.encode(),
        "error": ValueError(f"code={SECRET}"),
        "several": {"state": [SECRET, SECRET]},
        "body": f"token={SECRET}".encode(),
    }
    before = copy.deepcopy({name: item for name, item in value.items() if name != "error"})
    found = redacted_value(value)
    assert "7f3a" not in repr(found)
    assert found["data"][1]["json"]["expires_in"] == 5
    assert {name: item for name, item in value.items() if name != "error"} == before
    assert str(value["error"]) == f"code={SECRET}"


def test_a_value_without_secrets_is_the_very_same():
    value = ({"a": [1, None, b"x"], "token": None}, "text", object())
    assert redacted_value(value) is value


def test_a_value_that_contains_itself_comes_to_an_end():
    value: dict[str, Any] = {"token": SECRET}
    value["itself"] = value
    deep: Any = {"token": SECRET}
    for _ in range(50):
        deep = [deep]
    assert "7f3a" not in repr(redacted_value(value))
    assert "7f3a" not in repr(redacted_value(deep))


# --- records ----------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of its own that writes to ``logger.written``, all fields of a record too."""
    made = logging.Logger("of a test", logging.DEBUG)  # noqa: LOG001  (it is to have no parent)
    made.written = io.StringIO()  # type: ignore[attr-defined]
    handler = logging.StreamHandler(made.written)  # type: ignore[attr-defined]
    handler.setFormatter(EveryField("%(message)s"))
    made.addHandler(handler)
    made.addFilter(RedactingFilter())
    return made


class EveryField(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {record.__dict__}"


def written(logger: Any) -> str:
    return str(logger.written.getvalue())


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (f"code={SECRET}", ()),
        ("refresh_token=%s", (SECRET,)),
        ("%s=%s", ("password", SECRET)),
        ("data %s and %r", ({"client_secret": SECRET}, [("code", SECRET)])),
        ("%(access_token)s", ({"access_token": SECRET},)),
        ("nothing of it is in the text", ({"access_token": SECRET},)),
        ("keyword arguments %s", ({"auth": ("client", SECRET), "timeout": 5},)),
        ("body %s", (f"token={SECRET}".encode(),)),
        ("failed: %s", (ValueError(f"Bearer {SECRET}"),)),
        (ValueError(f"Bearer {SECRET}"), ()),
        ("does not fit: token=%s", (SECRET, SECRET)),
        (f"does not fit either: 100% of token={SECRET}", (SECRET,)),
    ],
)
def test_messages_and_arguments_are_masked(logger, message, arguments):
    logger.info(message, *arguments)
    assert "7f3a" not in written(logger)
    assert written(logger), "and something is said"


def test_a_record_without_secrets_is_unchanged(logger):
    arguments = ({"a": 1}, "text")
    record = logging.LogRecord("n", logging.INFO, "p", 1, "%s and %s", arguments, None)
    before = dict(vars(record))
    assert RedactingFilter().filter(record) is True
    assert vars(record) == before
    assert record.args is arguments


def test_tracebacks_are_masked_with_all_they_came_from(logger):
    try:
        try:
            raise KeyError(f"refresh_token={SECRET}")
        except KeyError as error:
            error.add_note(f"code={SECRET}")
            raise ExceptionGroup("several", [ValueError(f"Bearer {SECRET}")]) from error
    except ExceptionGroup:
        logger.exception("it failed", stack_info=True)
    assert "7f3a" not in written(logger)
    assert "Traceback" in written(logger)
    assert "several" in written(logger)


def test_a_traceback_without_secrets_stays_an_exception(logger):
    """What reports errors elsewhere wants the exception itself. Source lines are no reason to take it."""
    seen: list[Any] = []
    logger.addFilter(lambda record: bool(seen.append(record.exc_info[1])) or True)
    try:
        raise ValueError(str(dict(token=1)))  # token=SECRET  # noqa: C408
    except ValueError as error:
        logger.exception("it failed")
        raised = error
    assert seen == [raised]


def test_extra_fields_are_masked_but_not_our_codes(logger):
    response = {"access_token": SECRET}
    logger.info("x", extra={"response": response, "refresh_token": SECRET, "code": "http_503", "action": "y"})
    assert "7f3a" not in written(logger)
    assert "'code': 'http_503'" in written(logger)
    assert response == {"access_token": SECRET}


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError(f"code={SECRET}")

    __repr__ = __str__


def test_what_cannot_be_searched_is_withheld_and_raises_nothing(logger):
    logger.info("%s", Unspeakable(), extra={"anything": f"token={SECRET}"})
    assert redaction.WITHHELD in written(logger)
    assert "7f3a" not in written(logger)


anything = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(NAMES), inner) | st.tuples(inner)
    ),
)


@settings(deadline=None, max_examples=50)
@given(message=st.text(), arguments=st.lists(anything, max_size=3))
def test_no_record_makes_it_raise(message, arguments):
    record = logging.LogRecord("n", logging.INFO, "p", 1, message, tuple(arguments), None)
    assert RedactingFilter().filter(record) is True
    try:
        before = record.getMessage()
    except (TypeError, ValueError, KeyError):
        pytest.fail("what passes the filter can be formatted")
    RedactingFilter().filter(record)
    assert record.getMessage() == before


@settings(deadline=None)
@given(st.text(st.sampled_from("token=:\"'\\ %3D&codestaBrr,[(.A1"), max_size=60))
def test_masking_twice_is_masking_once(text):
    once = redacted(text)
    assert redacted(once) == once


MEGABYTE = 1_000_000
ADVERSE = {
    "nothing": "a",
    "names": "token",
    "values that never end": 'token":"',
    "backslashes": "\\",
    "every depth": "".join(f'token":{chr(92) * depth}"' for depth in range(10)),
    "spaces after a name": 'token"' + " " * 1000,
    "schemes": "Bearer ",
    "states": "state a",
    "URLs": "://a:",
    "colons": "password :",
    "encoded": "%26code%3D",
    "form": "code=a&",
    "quotes": "token='\\",
    "pairs": "('token",
    "clients": "auth=('",
}


@pytest.mark.parametrize("piece", ADVERSE.values(), ids=ADVERSE)
@pytest.mark.parametrize("lead", ["", 'token":\\"'], ids=["by itself", "as a value"])
def test_a_megabyte_of_anything_takes_no_more_than_its_share(piece, lead):
    """Time that grew with the square of the length would be hours here; what others use does not count."""
    started = time.process_time()
    redacted(lead + piece * (MEGABYTE // len(piece)))
    assert time.process_time() - started < 60


# --- where it is ------------------------------------------------------------------------------------


def loggers_of(package: Path) -> set[str]:
    calls = (
        node
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger"
    )
    return {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}


def test_it_is_on_every_logger_of_this_package():
    names = loggers_of(Path(redaction.__file__).parent)
    assert names <= {*OURS, "django.security.csrf"}  # gets a path and Django's reason, as Django's check does
    assert {"oauth_connect", "oauth_connect.stores"} <= names
    for name in OURS:
        assert any(isinstance(one, RedactingFilter) for one in logging.getLogger(name).filters), name


@pytest.mark.parametrize("package", LIBRARIES)
@pytest.mark.parametrize("name", ["", ".made.by.this.test"], ids=["its own", "one made later"])
def test_it_is_on_the_loggers_of_the_libraries_and_on_those_they_make_later(package, name, caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger(f"{package}{name}").debug("Obtained token %s.", {"access_token": SECRET})
    assert caplog.messages == [f"Obtained token {{'access_token': '{MASK}'}}."]
    assert "7f3a" not in str(vars(caplog.records[0]))


@pytest.mark.parametrize(
    "name", ["urllib3.connectionpool", "requests_oauthlib.oauth2_session", "oauthlib.oauth2.rfc6749"]
)
def test_a_handler_at_the_logger_itself_sees_no_secret_either(name):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        logger.error("Request body was %s", f"refresh_token={SECRET}")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue() == f"Request body was refresh_token={MASK}\n"


def test_it_is_there_once_however_often_it_is_installed():
    def counted() -> list[int]:
        names = [*OURS, *LIBRARIES, "urllib3.connectionpool"]
        loggers = [logging.getLogger(name) for name in names]
        return [len(logger.filters) for logger in loggers] + [len(logger.handlers) for logger in loggers]

    before = counted()
    redaction.install()
    assert counted() == before


def test_a_site_without_handlers_still_hears_our_warnings():
    """Python writes to stderr what no handler takes: one of ours on our own loggers would swallow it."""
    assert [handler for name in OURS for handler in logging.getLogger(name).handlers] == []


@pytest.mark.parametrize(
    ("name", "is_ours"), [("oauth_connect.stores", True), ("site", False), ("oauth_connector", False)]
)
def test_only_this_packages_records_lose_the_locals_of_a_traceback(name, is_ours):
    """A reporter takes the traceback from the record. A site's own belongs to the site."""

    def fail(secret: str) -> None:
        raise ValueError(len(secret))

    try:
        fail(SECRET)
    except ValueError as error:
        exc_info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord(name, logging.ERROR, "p", 1, "it failed", (), exc_info)
    RedactingFilter().filter(record)
    assert record.exc_info is exc_info
    innermost = exc_info[2].tb_next.tb_frame
    assert innermost.f_code.co_name == "fail"
    assert innermost.f_locals == ({} if is_ours else {"secret": SECRET})
