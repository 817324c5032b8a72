"""Runs the system checks of this package, and none of Django's."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.checks import CheckMessage
from django.core.checks.registry import registry

OURS = [
    check
    for check in registry.get_checks(include_deployment_checks=True)
    if check.__module__.startswith("oauth_connect.")
]


def our_messages(databases: Iterable[str] = ()) -> list[CheckMessage]:
    """Return what ``check --deploy`` reports. With databases, as ``--database`` names them, rows are read."""
    return [message for check in OURS for message in check(app_configs=None, databases=list(databases))]


def found() -> dict[str, CheckMessage]:
    """Return what ``check --deploy --database default`` reports of this package, by the ends of the ids."""
    messages = our_messages(["default"])
    return {message.id.removeprefix("oauth_connect."): message for message in messages if message.id}
