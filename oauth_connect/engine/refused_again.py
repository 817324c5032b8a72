"""Logs that an API refuses a token that was requested because it had refused the one before."""

from __future__ import annotations

import logging
from collections.abc import Hashable

logger = logging.getLogger("oauth_connect")
MAX_REMEMBERED = 1000
_logged: dict[Hashable, object] = {}


def log_refused_again(token: Hashable, *, provider: str, connection: str = "") -> None:
    """Log it once for each ``token`` in this process, because each call to the API finds it.

    ``token``: its store's key and its version. ``connection``: empty for a token in a keyring.
    """
    if len(_logged) > MAX_REMEMBERED:
        _logged.clear()
    own = object()
    # No lock, which a fork could leave locked: of several threads, setdefault lets one be the first.
    if _logged.setdefault(token, own) is not own:
        return
    details = {"action": "refused_again", "provider": provider, "connection": connection}
    logger.warning("the API of %s refuses a token that was just requested for it", provider, extra=details)
