"""An error leaves a decorated function with its lines, and without the locals of the frames below."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from oauth_connect.errors import ProviderUnavailable
from oauth_connect.tracebacks import (
    copy_of,
    forget_locals,
    inherited_without_locals,
    methods_without_locals,
    without_locals,
)

pytestmark = pytest.mark.compliance("D45")
SECRET = "canary"


def lines(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def inner(secret: str) -> None:
    copied = {"token": secret}
    raise KeyError(len(copied))


@without_locals
def outer(secret: str, *more: Any) -> None:
    inner(secret)


def caught(call: Any, *arguments: Any, kind: type[BaseException] = KeyError) -> BaseException:
    try:
        call(*arguments)
    except kind as error:
        return error
    raise AssertionError("nothing was raised")


def below(function: Any, *arguments: Any) -> list[dict[str, Any]]:
    """Return the locals of the frames below this test's own."""
    return locals_of(caught(function, *arguments, kind=Exception))[1:]


def locals_of(error: BaseException) -> list[dict[str, Any]]:
    return [dict(frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_the_lines_stay_and_the_locals_do_not():
    assert lines(caught(outer, SECRET))[-2:] == ["outer", "inner"]
    assert below(outer, SECRET)[1:] == [{}, {}]
    assert SECRET not in repr(below(outer, SECRET))


def test_a_traceback_has_one_line_of_the_decorator():
    @without_locals
    def above(secret: str) -> None:
        outer(secret)

    assert lines(caught(above, SECRET))[1:] == ["guarded", "above", "outer", "inner"]


def test_type_message_attributes_and_notes_stay():
    given = ProviderUnavailable("Try later.", code="busy", retry_after=3)
    given.add_note("a note")

    @without_locals
    def fail() -> None:
        raise given

    error = caught(fail, kind=ProviderUnavailable)
    assert error is given
    assert (str(error), given.code, given.retry_after, error.__notes__) == (
        "Try later.",
        "busy",
        3,
        ["a note"],
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_error_that_ends_the_process_shows_nothing_either(kind):
    """A server's time limit ends a worker by SystemExit, and reporters report it."""

    @without_locals
    def fail(secret: str) -> None:
        raise kind

    assert locals_of(caught(fail, SECRET, kind=kind))[-1] == {}


def test_a_coroutine_shows_nothing():
    @without_locals
    async def fail(secret: str) -> None:
        await asyncio.sleep(0)
        inner(secret)

    assert inspect.iscoroutinefunction(fail)
    assert SECRET not in repr(below(lambda: asyncio.run(fail(SECRET)))[1:])


def test_a_generator_shows_nothing():
    @without_locals
    def fail(secret: str) -> Iterator[str]:
        yield secret
        inner(secret)

    assert inspect.isgeneratorfunction(fail)
    assert SECRET not in repr(below(list, fail(SECRET)))


def test_the_errors_behind_an_error_show_nothing():
    @without_locals
    def fail(secret: str) -> None:
        try:
            inner(secret)
        except KeyError as error:
            raise RuntimeError("behind") from error

    error = caught(fail, SECRET, kind=RuntimeError)
    assert isinstance(error.__cause__, KeyError)
    assert lines(error.__cause__) == ["fail", "inner"]
    assert locals_of(error.__cause__) == [{}, {}]


def test_the_members_of_a_group_show_nothing():
    member = caught(inner, SECRET)

    @without_locals
    def fail() -> None:
        raise ExceptionGroup("several", [member])

    caught(fail, kind=ExceptionGroup)
    assert SECRET not in repr(locals_of(member))


@pytest.mark.parametrize("cause", [None, ValueError(SECRET), ...])
def test_an_error_of_this_package_has_nothing_behind_it(cause):
    @without_locals
    def fail(secret: str) -> None:
        try:
            inner(secret)
        except KeyError:
            if cause is ...:
                raise ProviderUnavailable("Try later.")  # noqa: B904
            raise ProviderUnavailable("Try later.") from cause

    error = caught(fail, SECRET, kind=ProviderUnavailable)
    assert (error.__context__, error.__cause__) == (None, None)


def test_an_error_that_the_caller_handles_keeps_its_locals():
    """It is the site's, which may report it afterwards."""
    theirs = caught(inner, "the site's own")
    try:
        raise theirs
    except KeyError:
        ours = caught(outer, SECRET)
    assert ours.__context__ is theirs
    assert "the site's own" in repr(locals_of(theirs))


def test_a_task_that_waits_is_not_ended_by_an_error_that_it_shares():
    """Before Python 3.13, clearing the frame of a coroutine ends it."""
    shared = ValueError("one for all")

    @without_locals
    def fail() -> None:
        raise shared

    async def task(waiting: asyncio.Event, may_go_on: asyncio.Event) -> str:
        try:
            fail()
        except ValueError:
            waiting.set()
            await may_go_on.wait()
        return "went on"

    async def main() -> list[str]:
        events = [(asyncio.Event(), asyncio.Event()) for _ in range(2)]
        tasks = []
        for waiting, may_go_on in events:
            tasks.append(asyncio.create_task(task(waiting, may_go_on)))
            await waiting.wait()
        for _, may_go_on in events:
            may_go_on.set()
        return list(await asyncio.wait_for(asyncio.gather(*tasks), 10))

    assert asyncio.run(main()) == ["went on", "went on"]


def test_the_globals_of_a_module_that_cannot_be_imported_are_not_shown():
    """The locals of such a frame are the module itself, and cannot be cleared."""

    @without_locals
    def fail() -> None:
        exec("SECRET = 'of a module'\nraise RuntimeError")  # noqa: S102

    assert lines(caught(fail, kind=RuntimeError))[-1] == "fail"


@methods_without_locals
class Guarded:
    def __init__(self, secret: str = "") -> None:
        self._secret = secret
        if secret == "wrong":
            inner(secret)

    @property
    def value(self) -> str:
        """The docstring."""
        return inner(SECRET) or ""

    @classmethod
    def of(cls, secret: str) -> Guarded:
        inner(secret)
        return cls()

    def call(self, secret: str, *, more: int = 1) -> None:
        inner(secret)

    def _private(self) -> None: ...


@pytest.mark.parametrize(
    "call",
    [
        lambda: Guarded("wrong"),
        lambda: Guarded().value,
        lambda: Guarded.of(SECRET),
        lambda: Guarded().call(SECRET),
    ],
)
def test_the_methods_of_a_class_show_nothing(call):
    frames = below(call)
    assert len(frames) > 1
    assert not {SECRET, "wrong"}.intersection(repr(frames).replace("'", " ").split())


class Parent:
    def call(self, secret: str) -> str:
        inner(secret)
        return ""

    async def acall(self, secret: str) -> str:
        inner(secret)
        return ""


class Child(Parent):
    pass


inherited_without_locals(Child, "call", "acall")


def test_an_inherited_method_shows_nothing():
    assert SECRET not in repr(below(Child().call, SECRET))
    assert SECRET not in repr(below(lambda: asyncio.run(Child().acall(SECRET)))[1:])
    assert inspect.iscoroutinefunction(Child.acall)


def test_a_method_that_is_patched_in_the_parent_is_called(monkeypatch):
    monkeypatch.setattr(Parent, "call", lambda self, secret: "patched")
    assert Child().call(SECRET) == "patched"


def test_signatures_and_docstrings_stay():
    assert str(inspect.signature(Guarded.call)) == "(self, secret: 'str', *, more: 'int' = 1) -> 'None'"
    assert inspect.getdoc(Guarded.value) == "The docstring."
    assert Guarded.call.__qualname__ == "Guarded.call"


def test_a_copy_of_an_error_has_a_traceback_of_its_own():
    error = caught(outer, SECRET)
    error.add_note("a note")
    copied = copy_of(error)
    assert copied is not error
    assert (copied.args, copied.__notes__, copied.__traceback__) == (
        error.args,
        error.__notes__,
        error.__traceback__,
    )
    again = caught(lambda: exec("raise copied", {"copied": copied}))  # noqa: S102
    assert len(lines(again)) > len(lines(error))


def test_an_error_that_cannot_be_copied_is_raised_itself():
    class Strange(Exception):
        def __init__(self, *, needed: int) -> None:
            super().__init__("strange")

    error = Strange(needed=1)
    assert copy_of(error) is error


def test_an_error_of_an_encoding_does_not_carry_its_text():
    error = caught(without_locals(lambda: f"{SECRET}\udc80".encode()), kind=UnicodeEncodeError)
    assert SECRET not in repr(error)
    assert SECRET not in str(error)


def test_an_error_without_traceback_is_no_mistake():
    forget_locals(ValueError())
