"""Logs that an API refuses a token that was requested because it had refused the one before."""

from __future__ import annotations

import logging
from collections.abc import Hashable

from oauth_connect.engine.logged_once import is_first

logger = logging.getLogger("oauth_connect")


def log_refused_again(token: Hashable, *, provider: str, connection: str = "") -> None:
    """Log it once for each ``token`` in this process, because each call to the API finds it.

    ``token``: its store's key and its version. ``connection``: empty for a token in a keyring.
    """
    if not is_first(("refused_again", token)):
        return
    details = {"action": "refused_again", "provider": provider, "connection": connection}
    logger.warning("the API of %s refuses a token that was just requested for it", provider, extra=details)
