"""What a preset says *about* its provider: where its data comes from, and what a person should know.

No request depends on it. It is the table ``[about]`` of a preset's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.definition import build

Category = Literal[
    "identity",
    "workspace",
    "communication",
    "productivity",
    "project management",
    "developer",
    "security",
    "crm",
    "support",
    "marketing",
    "commerce",
    "payments",
    "accounting",
    "social",
    "media",
    "fitness",
    "design",
    "storage",
    "cms",
    "documents",
    "forms",
    "scheduling",
    "events",
]
Evidence = Literal["vendor", "library", "secondary"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that the vendor has announced. ``on``: an ISO day, or a month."""

    on: str
    what: str
    source: Evidence = "vendor"

    def __post_init__(self) -> None:
        check_date("on", self.on)

    @property
    def day(self) -> date:
        """The day, or the first day of the month."""
        return day_of(self.on)


@dataclass(frozen=True, kw_only=True)
class Console:
    """Where and how a client is registered, as read on the vendor's page at the time ``read``."""

    page: str
    read: str
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_https("page", self.page)
        check_date("read", self.read)


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known about a provider, and how.

    ``sources`` were read at the time ``read`` (an ISO month or day). ``known_by`` says how the fields are
    known: from the vendor's own pages, from a library's code, or from others' descriptions. ``fields`` says
    it for single fields, by their dotted path. ``unverified`` lists fields that nobody has verified.
    ``access_token_seconds``: the usual lifetime, 0 if unknown. ``redirect_uri``: what the provider demands of
    it. ``client_secret``: the call that makes the secret, with the dotted path of its class, if the secret is
    not a string. ``least_scopes``: enough to connect. It is empty if no scope is needed, and missing if that
    is not known. ``scopes_for``: a common task -> the scopes for it. ``errors``: the provider's error code
    -> its meaning. ``differences``: where a library has another value, and why this one is used.
    """

    category: Category
    sources: tuple[str, ...]
    read: str
    known_by: Evidence
    confidence: Literal["high", "medium", "low"] = "medium"
    unverified: tuple[str, ...] = ()
    fields: Mapping[str, Evidence] = field(default_factory=dict)
    pkce: Literal["required", "supported", "tolerated", "ignored", "unsupported", "unknown"] = "unknown"
    access_token_seconds: int = 0
    redirect_uri: str = ""
    client_secret: str = ""
    caveats: tuple[str, ...] = ()
    least_scopes: tuple[str, ...] | None = None
    scope_labels: Mapping[str, str] = field(default_factory=dict)
    scopes_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    console: Console | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise InvalidProvider("sources: missing; name at least one page or library")
        check_date("read", self.read)

    @classmethod
    def from_mapping(cls, name: str, data: Mapping[str, Any]) -> About:
        """Return the table as an object. Raises InvalidProvider, whose message begins with the path."""
        found: About = build(cls, data, f"{name}.about")
        return found

    def known_how(self, path: str) -> Evidence:
        """Return how a field is known. What is said of a table is said of its fields."""
        while path:
            if path in self.fields:
                return self.fields[path]
            path = path.rpartition(".")[0]
        return self.known_by

    def is_unverified(self, path: str) -> bool:
        """Return whether nobody has verified a field, or the table that it is in."""
        return any(path == marked or path.startswith(f"{marked}.") for marked in self.unverified)

    @property
    def doubts(self) -> str:
        """What to say wherever this preset is offered; "" if the data is well known."""
        if self.confidence == "low":
            worst = f", above all {', '.join(self.unverified)}" if self.unverified else ""
            return f"not verified: the data of this preset is from few or indirect sources{worst}"
        return f"not verified: {', '.join(self.unverified)}" if self.unverified else ""


def day_of(text: str) -> date:
    """Return a day. A month stands for its first day. Raises ValueError."""
    return date.fromisoformat(text if len(text) > len("2026-10") else f"{text}-01")


def check_date(name: str, text: str) -> None:
    try:
        day_of(text)
    except ValueError:
        raise InvalidProvider(f"{name}: expected a date such as 2026-10-31 or 2026-10") from None


def check_https(name: str, url: str) -> None:
    if not url.startswith("https://"):
        raise InvalidProvider(f"{name}: must be an https URL")
