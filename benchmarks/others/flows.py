"""Where each package begins to connect an account, and where its callback is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Flow:
    """Paths of the site's URLs. `connected`: where a callback that succeeded leads to."""

    name: str
    module: str
    begin: str
    callback: str
    connected: str
    begins_with_post: bool = False

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None

    def is_success(self, answer: Any) -> bool:
        return bool(answer["Location"].startswith(self.connected))


FLOWS = (
    Flow(
        "oauth_connect",
        "oauth_connect",
        "/oauth/bench/connect/",
        "/oauth/bench/callback/",
        "/oauth/",
        begins_with_post=True,
    ),
    Flow("Authlib, with profile", "authlib", "/authlib/", "/authlib/callback/", "/connected"),
    Flow("Authlib, without profile", "authlib", "/authlib/", "/authlib/no-profile/", "/connected"),
    Flow(
        "django-allauth",
        "allauth",
        "/accounts/bench/?process=connect",
        "/accounts/bench/callback/",
        "/accounts/",
    ),
    Flow(
        "social-auth-app-django",
        "social_django",
        "/social/login/bench/",
        "/social/complete/bench/",
        "/connected",
        begins_with_post=True,
    ),
)
