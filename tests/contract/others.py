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
    "amazon": "amazon.views.AmazonOAuth2Adapter",
    "apple": "apple.views.AppleOAuth2Adapter",
    "asana": "asana.views.AsanaOAuth2Adapter",
    "atlassian": "atlassian.views.AtlassianOAuth2Adapter",
    "basecamp": "basecamp.views.BasecampOAuth2Adapter",
    "bitbucket": "bitbucket_oauth2.views.BitbucketOAuth2Adapter",
    "box": "box.views.BoxOAuth2Adapter",
    "digitalocean": "digitalocean.views.DigitalOceanOAuth2Adapter",
    "discord": "discord.views.DiscordOAuth2Adapter",
    "dropbox": "dropbox.views.DropboxOAuth2Adapter",
    "eventbrite": "eventbrite.views.EventbriteOAuth2Adapter",
    "facebook": "facebook.views.FacebookOAuth2Adapter",
    "figma": "figma.views.FigmaOAuth2Adapter",
    "gitea": "gitea.views.GiteaOAuth2Adapter",
    "github": "github.views.GitHubOAuth2Adapter",
    "gitlab": "gitlab.views.GitLabOAuth2Adapter",
    "google": "google.views.GoogleOAuth2Adapter",
    "hubspot": "hubspot.views.HubspotOAuth2Adapter",
    "instagram": "instagram.views.InstagramOAuth2Adapter",
    "linkedin": "linkedin_oauth2.views.LinkedInOAuth2Adapter",
    "mailchimp": "mailchimp.views.MailChimpOAuth2Adapter",
    "microsoft": "microsoft.views.MicrosoftGraphOAuth2Adapter",
    "miro": "miro.views.MiroOAuth2Adapter",
    "notion": "notion.views.NotionOAuth2Adapter",
    "okta": "okta.views.OktaOAuth2Adapter",
    "patreon": "patreon.views.PatreonOAuth2Adapter",
    "paypal": "paypal.views.PaypalOAuth2Adapter",
    "pinterest": "pinterest.views.PinterestOAuth2Adapter",
    "quickbooks": "quickbooks.views.QuickBooksOAuth2Adapter",
    "reddit": "reddit.views.RedditAdapter",
    "salesforce": "salesforce.views.SalesforceOAuth2Adapter",
    "shopify": "shopify.views.ShopifyOAuth2Adapter",
    "slack": "slack.views.SlackOAuth2Adapter",
    "snapchat": "snapchat.views.SnapchatOAuth2Adapter",
    "spotify": "spotify.views.SpotifyOAuth2Adapter",
    "strava": "strava.views.StravaOAuth2Adapter",
    "stripe": "stripe.views.StripeOAuth2Adapter",
    "tiktok": "tiktok.views.TikTokOAuth2Adapter",
    "twitch": "twitch.views.TwitchOAuth2Adapter",
    "vimeo": "vimeo_oauth2.views.VimeoOAuth2Adapter",
    "x": "twitter_oauth2.views.TwitterOAuth2Adapter",
    "yahoo": "yahoo.views.YahooOAuth2Adapter",
    "zoho": "zoho.views.ZohoOAuth2Adapter",
    "zoom": "zoom.views.ZoomOAuth2Adapter",
}
BACKENDS = {
    "amazon": "amazon.AmazonOAuth2",
    "apple": "apple.AppleIdAuth",
    "asana": "asana.AsanaOAuth2",
    "atlassian": "atlassian.AtlassianOAuth2",
    "bitbucket": "bitbucket.BitbucketOAuth2",
    "box": "box.BoxOAuth2",
    "digitalocean": "digitalocean.DigitalOceanOAuth",
    "discord": "discord.DiscordOAuth2",
    "dropbox": "dropbox.DropboxOAuth2V2",
    "eventbrite": "eventbrite.EventbriteOAuth2",
    "facebook": "facebook.FacebookOAuth2",
    "fitbit": "fitbit.FitbitOAuth2",
    "gitea": "gitea.GiteaOAuth2",
    "github": "github.GithubOAuth2",
    "gitlab": "gitlab.GitLabOAuth2",
    "google": "google.GoogleOAuth2",
    "hubspot": "hubspot.HubSpotOAuth2",
    "linkedin": "linkedin.LinkedinOAuth2",
    "mailchimp": "mailchimp.MailChimpOAuth2",
    "microsoft": "microsoft.MicrosoftOAuth2",
    "patreon": "patreon.PatreonOAuth2",
    "paypal": "paypal.PayPalOAuth2",
    "pinterest": "pinterest.PinterestOAuth2",
    "reddit": "reddit.RedditOAuth2",
    "salesforce": "salesforce.SalesforceOAuth2",
    "slack": "slack.SlackOAuth2",
    "spotify": "spotify.SpotifyOAuth2",
    "strava": "strava.StravaOAuth",
    "stripe": "stripe.StripeOAuth2",
    "twitch": "twitch.TwitchOAuth2",
    "vimeo": "vimeo.VimeoOAuth2",
    "x": "twitter_oauth2.TwitterOAuth2",
    "yahoo": "yahoo.YahooOAuth2",
    "zoom": "zoom.ZoomOAuth2",
}
# Both packages have no URLs of these, only settings for them.
ONLY_SETTINGS = {(ALLAUTH, "auth0"), (SOCIAL, "auth0"), (SOCIAL, "keycloak"), (SOCIAL, "okta")}
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    ALLAUTH: {
        "authorization_endpoint": ("authorize_url",),
        "token_endpoint": ("access_token_url",),
        "userinfo_endpoint": ("profile_url", "identity_url", "userinfo_url"),
    },
    SOCIAL: {
        "authorization_endpoint": ("AUTHORIZATION_URL",),
        "token_endpoint": ("ACCESS_TOKEN_URL",),
        "userinfo_endpoint": ("USER_DATA_URL", "METADATA_URL"),
        "revocation_endpoint": ("REVOKE_TOKEN_URL",),
    },
}


class _StandIn:
    """Answers as an adapter does for a site that has configured nothing but a client."""

    base_url = "https://login.salesforce.com"
    provider_api_version = "v4"
    okta_base_url = "example.okta.com"

    def _build_tenant_url(self, path: str) -> str:
        return f"https://login.microsoftonline.com/common{path}"

    def _build_url(self, path: str) -> str:
        return f"https://gitlab.com{path}"

    def _get_endpoint(self) -> str:
        return "paypal.com"

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
        # Its default is v1 until release 65.19.5, and v5 since 65.19.6.
        SOCIALACCOUNT_PROVIDERS={"pinterest": {"API_VERSION": "v5"}},
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
