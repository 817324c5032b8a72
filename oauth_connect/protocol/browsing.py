"""Which addresses a person may be sent to from a terminal.

They come from settings, from discovery or straight from a server, and go to ``webbrowser.open``, which
starts a program with them: one that is no plain https address could be an option or a command there.
"""

from __future__ import annotations

import re

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.destination import endpoint_problem

LONGEST = 8192  # characters
# Of RFC 3986, without what a shell might read as more than a character; encoded, they do no harm.
_HARMLESS = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!*+,;=&%-]+")


def browsable(url: object) -> str:
    """Return an address that a person may be sent to: https, or http on this machine.

    Raises ForbiddenDestination for anything else, and for what is not written in plain URL characters.
    """
    if not isinstance(url, str) or len(url) > LONGEST or not _HARMLESS.fullmatch(url):
        raise ForbiddenDestination(
            "The provider names an address that is not plain https; it is not opened and not shown."
        )
    if problem := endpoint_problem(url):
        raise ForbiddenDestination(f"The provider names an address that must not be opened: {problem}")
    return url
