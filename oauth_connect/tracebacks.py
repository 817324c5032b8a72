"""Removes the locals from tracebacks, because reporters serialise them.

Sentry, Django's error pages and its error mail show the locals of each frame of an error, and of the errors
behind it. In this package, and in the libraries that it calls, locals are tokens, secrets and keys. So each
public function is decorated. File, line and function of a frame stay in the traceback, its locals do not.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from oauth_connect.errors import OAuthConnectError

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
E = TypeVar("E", bound=BaseException)

_SPECIAL = ("__init__", "__call__", "__iter__")
# These frames can be suspended and run on. To clear one would end it (Python 3.11, 3.12).
_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def without_locals(function: F) -> F:
    """Decorate a function, a coroutine function or a generator function: its errors carry no locals."""
    if inspect.iscoroutinefunction(function):
        return _coroutine(function)  # type: ignore[return-value]
    if inspect.isgeneratorfunction(function):
        return _generator(function)  # type: ignore[return-value]

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        handled = sys.exception()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            forget_locals(error, handled)
            del args, kwargs, handled  # the locals of this frame
            raise

    return guarded  # type: ignore[return-value]


def _coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        handled = sys.exception()
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            forget_locals(error, handled)
            del args, kwargs, handled
            raise

    return guarded


def _generator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        handled = sys.exception()
        try:
            return (yield from function(*args, **kwargs))
        except BaseException as error:
            forget_locals(error, handled)
            del args, kwargs, handled
            raise

    return guarded


def methods_without_locals(kind: C) -> C:
    """Decorate a class: the errors of its own public methods and properties carry no locals."""
    for name, value in list(vars(kind).items()):
        if (name.startswith("_") and name not in _SPECIAL) or inspect.isasyncgenfunction(value):
            continue
        if inspect.isfunction(value):
            setattr(kind, name, without_locals(value))
        elif isinstance(value, classmethod):
            setattr(kind, name, classmethod(without_locals(value.__func__)))
        elif isinstance(value, property) and value.fget is not None:
            setattr(kind, name, value.getter(without_locals(value.fget)))
    return kind


def inherited_without_locals(kind: C, *names: str) -> C:
    """Override inherited methods, whose frames have the caller's arguments. Returns the class.

    They are looked up at each call, because tests of a site may patch them in the class that defines them.
    """
    for name in names:
        inherited = getattr(kind, name)
        call = _acalling(kind, name) if inspect.iscoroutinefunction(inherited) else _calling(kind, name)
        setattr(kind, name, without_locals(functools.wraps(inherited)(call)))
    return kind


def _calling(kind: type, name: str) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(kind, self), name)(*args, **kwargs)

    return call


def _acalling(kind: type, name: str) -> Callable[..., Any]:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(super(kind, self), name)(*args, **kwargs)

    return call


def forget_locals(error: BaseException, outside: BaseException | None = None) -> None:
    """Remove the locals from the traceback of an error, and from those of the errors behind it.

    The first frame of the error's own traceback stays, because it catches the error. ``outside``: an error
    that was being handled before. It is not this package's, and stays as it is.
    """
    first = error.__traceback__
    if first is not None:
        _is_cleared(first.tb_frame)
        first.tb_next = _without_locals(first.tb_next)
    _forget_text(error)
    seen = {id(error), id(outside)}
    pending = _behind(error, outside)
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            _forget_text(current)
            current.__traceback__ = _without_locals(current.__traceback__)
            pending += _behind(current, outside)


def _forget_text(error: BaseException) -> None:
    """Empty the text that an error of an encoding carries: its ``repr`` and Django's pages show it."""
    if isinstance(error, UnicodeEncodeError | UnicodeDecodeError | UnicodeTranslateError):
        empty: Any = type(error.object)()
        error.args = tuple(empty if one is error.object else one for one in error.args)
        error.object = empty


def copy_of(error: E) -> E:
    """Return a copy of an error that several callers raise. Otherwise each would extend one traceback."""
    try:
        copied = copy.copy(error)
    except Exception:  # its class cannot be copied
        return error
    if type(copied) is not type(error):
        return error
    copied.__context__, copied.__cause__ = error.__context__, error.__cause__
    copied.__suppress_context__ = error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def _behind(error: BaseException, outside: BaseException | None) -> list[BaseException]:
    """Return the causes of an error. Forget those that no report shows, or that its message replaces."""
    suppressed = error.__suppress_context__
    if isinstance(error, OAuthConnectError):
        error.__cause__, error.__context__ = None, outside if outside is not error else None
        error.__suppress_context__ = suppressed
    elif suppressed:
        error.__context__ = error.__cause__
    found = [error.__cause__, error.__context__]
    if isinstance(error, BaseExceptionGroup):
        found += error.exceptions
    return [one for one in found if one is not None]


def _without_locals(traceback: TracebackType | None) -> TracebackType | None:
    """Return the frames that could be cleared. The others are left out."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    kept = None
    for one in reversed(frames):
        if _is_cleared(one.tb_frame):
            one.tb_next = kept
            kept = one
    return kept


def _is_cleared(frame: FrameType) -> bool:
    """Clear a frame's locals; return False if that is not possible, or if the frame is this module's."""
    code = frame.f_code
    # The locals of a module or a class body (not optimized) stay.
    if code.co_filename == __file__ or code.co_flags & _RESUMABLE or not code.co_flags & inspect.CO_OPTIMIZED:
        return False
    try:
        frame.clear()
    except RuntimeError:  # it runs
        return False
    return True
