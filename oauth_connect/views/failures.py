"""What a failed call says: to the user, to a program, to developers, and in the log.

The errors of this package name the setting and what to do. That is for developers and for the log. Users read
who must act: the provider, this site's operators, or themselves.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from oauth_connect.errors import (
    CallbackRefused,
    InvalidProvider,
    KeyUnavailable,
    ProtocolError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    printable_line,
)
from oauth_connect.protocol.grants import refusals
from oauth_connect.protocol.grants.error_codes import shown, word_of_provider
from oauth_connect.protocol.quirks import is_code_parameter
from oauth_connect.redaction import redacted, without_values
from oauth_connect.views.refusals import (
    FAILED,
    MISCONFIGURED,
    NOT_SET_UP,
    PERSONAL,
    UNAVAILABLE,
    text_for,
)

logger = logging.getLogger("oauth_connect.views")
SENTENCE_LIMIT = 600  # characters


@dataclass(frozen=True, slots=True)
class Failure:
    """``code``: a known word. ``message``: for users. ``sentence``: for developers, without a secret.

    ``error``: the provider's own code, cleaned, in an authorization response or if it is not a known word.
    ``endpoint``: the one that failed.
    """

    code: str
    message: Any
    sentence: str
    status: int
    is_ours: bool = False
    error: str = ""
    endpoint: str = ""

    @property
    def for_log(self) -> str:
        words = ", ".join(filter(None, dict.fromkeys([self.code, self.error, self.endpoint])))
        return f"{words}. {self.sentence}" if self.sentence else words


def failure_of(error: Exception) -> Failure:
    """Return what to say about an error. A provider's own sentences are left out."""
    if isinstance(error, CallbackRefused):
        sentence = "" if error.code in PERSONAL else _sentence(error)
        return Failure(error.code, text_for(error.code, error.error), sentence, 400, error=error.error)
    endpoint = getattr(error, "endpoint", "")
    if isinstance(error, KeyUnavailable):
        return Failure(error.code, NOT_SET_UP, _sentence(error), 500, is_ours=True)
    if isinstance(error, ImproperlyConfigured | InvalidProvider):
        return Failure("invalid_settings", NOT_SET_UP, _sentence(error), 500, is_ours=True)
    code = shown(str(getattr(error, "code", "")))
    message, sentence = FAILED, _sentence(error)
    if isinstance(error, ProviderRejected):
        sentence = _without_provider(error, sentence)
    elif isinstance(error, ProviderMisconfigured):
        message = MISCONFIGURED
    elif isinstance(error, ProviderUnavailable):
        message = UNAVAILABLE
    return Failure(code, message, sentence, 502, error=word_of_provider(error), endpoint=endpoint)


def noted_failure(code: str, error: str, *, refused_here: bool) -> Failure:
    """Return the failure of an earlier request, of which only the codes were noted.

    ``refused_here``: this site refused the response. Otherwise a request to the provider failed.
    """
    if refused_here:
        return Failure(code, text_for(code, error), "", 400, error=error)
    if code == KeyUnavailable.code:
        return Failure(code, NOT_SET_UP, "", 500, is_ours=True)
    if code in refusals.MISCONFIGURED:
        return Failure(code, MISCONFIGURED, "", 502)
    return Failure(code, UNAVAILABLE if refusals.is_transient(code) else FAILED, "", 502, error=error)


def log_our_fault(failure: Failure, provider: str) -> None:
    """Log that this site has no usable key, or lacks a setting or has a wrong one."""
    details = {"action": "site_misconfigured", "provider": provider, "code": failure.code}
    logger.error("this site is not set up completely: %s", failure.sentence, extra=details)


def developers_box(request: HttpRequest, error: Exception, provider: str = "") -> dict[str, str] | None:
    """Return the box for developers: only under DEBUG and for staff. None: this visitor sees no box.

    It adds the provider's words, masked like a log record, and without the parameters of its response.
    """
    user = getattr(request, "user", None)
    if not (settings.DEBUG or (getattr(user, "is_staff", False) and getattr(user, "is_active", False))):
        return None
    failure = failure_of(error)
    return {
        "code": failure.code,
        "endpoint": failure.endpoint,
        "sentence": failure.sentence or _sentence(error),
        "description": _without_response(request, _description(error)),
        "command": f"python manage.py oauth_doctor {provider} --online".replace("  ", " "),
    }


def _sentence(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ProviderUnavailable) and error.code:  # a provider may send any text as a code
        text = text.replace(f"({error.code})", f"({shown(error.code)})")
    return redacted(printable_line(text, SENTENCE_LIMIT))


def _without_provider(error: ProviderRejected, sentence: str) -> str:
    """Return the sentence of a refusal without the provider's words. What to do stays in it."""
    said = f"{error.code}. {printable_line(redacted(error.description)).rstrip('.')}"
    if error.code == shown(error.code):
        if not error.description:
            return sentence
        if said in sentence:
            return f"{sentence.replace(said, error.code, 1).rstrip('.')}."
    return f"The provider refused the request ({shown(error.code)})."


def _description(error: Exception) -> str:
    return redacted(printable_line(error.description)) if isinstance(error, ProtocolError) else ""


def _without_response(request: HttpRequest, text: str) -> str:
    """Mask the values of an authorization response. Some servers quote the code that they refuse.

    The last word of a text that was cut may be the beginning of such a value. It is left out.
    """
    if text.endswith("…"):
        text = f"{text.rpartition(' ')[0]} …"
    secret = (name for name in request.GET if name == "state" or is_code_parameter(name))
    return without_values(text, chain(*map(request.GET.getlist, secret)))
