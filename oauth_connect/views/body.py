"""Reads the body of a POST to the JSON API: JSON (RFC 8259), a form, or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from oauth_connect.flows.paths import CONNECT_PARAMETERS
from oauth_connect.protocol.grants.bodies import is_json

FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


class InvalidBody(ValueError):
    """A body cannot be read. Its text is for users, and repeats nothing of the body."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a request asks for: ``next``, ``scopes`` and ``connection`` where given, and variables by name."""

    parameters: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)


def given(request: HttpRequest) -> Given:
    """Return what a request asks for in its body, and else in its URL.

    In a form each variable is a field with the variable's name. Raises InvalidBody.
    """
    in_url = {name: request.GET[name] for name in CONNECT_PARAMETERS if name in request.GET}
    if request.content_type in FORMS:
        form = request.POST.dict()
        named = {name: form[name] for name in CONNECT_PARAMETERS if name in form}
        return Given({**in_url, **named}, form)
    if not request.body:
        return Given(in_url)
    if not is_json(request.content_type or ""):
        raise InvalidBody(_("Send JSON with the content type application/json, or a form."))
    document = _document(request.body)
    named = {name: _text(name, document[name]) for name in CONNECT_PARAMETERS if name in document}
    return Given({**in_url, **named}, _variables(document.get("variables", {})))


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets
        raise InvalidBody(_("The body is not JSON.")) from None
    if not isinstance(document, dict):
        raise InvalidBody(_("The body must be a JSON object."))
    return document


def _variables(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise InvalidBody(_("%(name)s must be an object.") % {"name": "variables"})
    return {name: _text(f"variables.{name}", one) for name, one in value.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidBody(_("%(name)s must be a text.") % {"name": name})
    return value
