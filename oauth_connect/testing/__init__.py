"""A fake provider for the tests of a site: offline, with real HTTP on loopback (docs/test-kit.md).

The names are imported when they are first used, because ``python -m oauth_connect.testing.server`` imports
this package first, and has no Django settings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oauth_connect.testing.fake import FakeProvider
    from oauth_connect.testing.mixin import FakeProviderMixin

__all__ = ["FakeProvider", "FakeProviderMixin"]

_MODULES = {"FakeProvider": "fake", "FakeProviderMixin": "mixin"}


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
