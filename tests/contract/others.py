"""What two other packages know of the providers: `python -m tests.contract.others` tells it as JSON.

In a process of its own, because one of them wants to be among a site's apps. Only constants are read;
where an address is a property, it is asked of a stand-in that knows the provider's usual host.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

ALLAUTH = "django-allauth"
SOCIAL = "social-auth-core"

ADAPTERS = {
    "atlassian": "atlassian.views.AtlassianOAuth2Adapter",
    "facebook": "facebook.views.FacebookOAuth2Adapter",
    "github": "github.views.GitHubOAuth2Adapter",
    "gitlab": "gitlab.views.GitLabOAuth2Adapter",
    "google": "google.views.GoogleOAuth2Adapter",
    "microsoft": "microsoft.views.MicrosoftGraphOAuth2Adapter",
    "notion": "notion.views.NotionOAuth2Adapter",
    "quickbooks": "quickbooks.views.QuickBooksOAuth2Adapter",
    "salesforce": "salesforce.views.SalesforceOAuth2Adapter",
    "shopify": "shopify.views.ShopifyOAuth2Adapter",
    "slack": "slack.views.SlackOAuth2Adapter",
    "x": "twitter_oauth2.views.TwitterOAuth2Adapter",
}
BACKENDS = {
    "atlassian": "atlassian.AtlassianOAuth2",
    "facebook": "facebook.FacebookOAuth2",
    "github": "github.GithubOAuth2",
    "gitlab": "gitlab.GitLabOAuth2",
    "google": "google.GoogleOAuth2",
    "microsoft": "microsoft.MicrosoftOAuth2",
    "salesforce": "salesforce.SalesforceOAuth2",
    "slack": "slack.SlackOAuth2",
    "x": "twitter_oauth2.TwitterOAuth2",
}
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    ALLAUTH: {
        "authorization_endpoint": ("authorize_url",),
        "token_endpoint": ("access_token_url",),
        "userinfo_endpoint": ("profile_url", "identity_url", "userinfo_url"),
    },
    SOCIAL: {
        "authorization_endpoint": ("AUTHORIZATION_URL",),
        "token_endpoint": ("ACCESS_TOKEN_URL",),
        "userinfo_endpoint": ("USER_DATA_URL",),
        "revocation_endpoint": ("REVOKE_TOKEN_URL",),
    },
}


class _StandIn:
    """Answers as an adapter does for a site that has configured nothing but a client."""

    base_url = "https://login.salesforce.com"
    provider_api_version = "v4"

    def _build_tenant_url(self, path: str) -> str:
        return f"https://login.microsoftonline.com/common{path}"

    def _build_url(self, path: str) -> str:
        return f"https://gitlab.com{path}"

    def _shop_url(self, path: str) -> str:
        return f"https://lovelace-mills.myshopify.com{path}"


@cache
def known() -> dict[str, dict[str, dict[str, str]]]:
    """Return package -> provider -> endpoint -> URL, with ``<version>`` for versions in paths."""
    command = [sys.executable, "-m", "tests.contract.others"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    parsed: dict[str, dict[str, dict[str, str]]] = json.loads(found.stdout)
    return parsed


def comparable(url: str) -> str:
    """Take out what may differ: versions in the path, and the query."""
    return re.sub(r"/(?:v\{version\}|v\d+\.\d+|\d{4}-\d{2})(?=/)", "/<version>", url).partition("?")[0]


def _main() -> None:
    settings: Any = importlib.import_module("django.conf").settings
    apps = ["auth", "contenttypes", "sessions", "messages"]
    settings.configure(
        INSTALLED_APPS=[
            *(f"django.contrib.{app}" for app in apps),
            "allauth",
            "allauth.account",
            "allauth.socialaccount",
        ],
        MIDDLEWARE=["allauth.account.middleware.AccountMiddleware"],
        SECRET_KEY="only for this process",
    )
    importlib.import_module("django").setup()
    told = {
        ALLAUTH: _told(ALLAUTH, "allauth.socialaccount.providers", ADAPTERS),
        SOCIAL: _told(SOCIAL, "social_core.backends", BACKENDS),
    }
    json.dump(told, sys.stdout)


def _told(package: str, prefix: str, classes: dict[str, str]) -> dict[str, dict[str, str]]:
    return {
        provider: _endpoints(NAMES[package], _imported(f"{prefix}.{path}"))
        for provider, path in classes.items()
    }


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _endpoints(names: dict[str, tuple[str, ...]], cls: Any) -> dict[str, str]:
    found = {}
    for endpoint, attributes in names.items():
        for attribute in attributes:
            if value := _constant(cls, attribute):
                found[endpoint] = comparable(value)
    return found


def _constant(cls: Any, name: str) -> str:
    value = getattr(cls, name, None)
    if isinstance(value, property) and value.fget is not None:
        try:
            value = value.fget(_StandIn())
        except AttributeError:  # it needs a configured app, not a constant
            return ""
    return value if isinstance(value, str) else ""


if __name__ == "__main__":
    _main()
