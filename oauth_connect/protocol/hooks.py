"""From a dotted path to the site's own function."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from oauth_connect.errors import InvalidProvider


def function_at(hook: Any, path: str) -> Callable[..., Any]:
    """Return the function that a hook names. Raises InvalidProvider, which begins with ``path``."""
    try:
        found = resolve_name(hook) if isinstance(hook, str) else hook
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidProvider(f"{path}: {hook!r} cannot be imported ({error})") from None
    if not callable(found):
        raise InvalidProvider(f"{path}: {hook!r} is not a function")
    return found  # type: ignore[no-any-return]
