"""Remembers what this process has logged, so that a warning that each call would repeat is logged once."""

from __future__ import annotations

from collections.abc import Hashable

MAX_REMEMBERED = 1000
_logged: dict[Hashable, object] = {}


def is_first(key: Hashable) -> bool:
    """Return whether this is the first call with this key in this process."""
    if len(_logged) > MAX_REMEMBERED:
        _logged.clear()
    own = object()
    # No lock, which a fork could leave locked: of several threads, setdefault lets one be the first.
    return _logged.setdefault(key, own) is own
