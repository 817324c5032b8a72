"""The same jobs with other packages, each by the recipe of its documentation.

They are optional (the extra `bench`). The tables name those that are not installed. A module `with_*.py` has
the recipes of a package, and imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Package:
    """`apps`: what a site adds to INSTALLED_APPS."""

    title: str
    module: str
    recipes: str
    apps: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


PACKAGES = (
    Package("requests-oauthlib", "requests_oauthlib", "with_requests_oauthlib"),
    Package("Authlib", "authlib", "with_authlib"),
    Package("requests_oauth2client", "requests_oauth2client", "with_requests_oauth2client"),
    Package(
        "django-allauth",
        "allauth",
        "with_allauth",
        ("allauth", "allauth.account", "allauth.socialaccount"),
    ),
    Package("social-auth-app-django", "social_django", "with_social_auth", ("social_django",)),
    Package("django-esi", "esi", "with_esi", ("esi",)),
)


def absent() -> list[str]:
    return [package.title for package in PACKAGES if not package.is_installed]
