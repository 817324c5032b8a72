"""What a command-line tool without Django has imported when it is forked (tests/support/forkserver.py)."""

from __future__ import annotations

import keyring

import oauth_connect.protocol.httpx
import oauth_connect.stores.keyring  # noqa: F401


def after_fork() -> None:
    """Choose the keyring that the environment of this process names."""
    keyring.core.init_backend()
