"""Each preset's endpoints against what two well-worn packages have; where they differ, a reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oauth_connect.conf import conf
from tests.contract.golden import PROVIDERS, load
from tests.contract.others import ADAPTERS, ALLAUTH, BACKENDS, SOCIAL, comparable, known

LOGIN_ONLY = "theirs is Sign in with Slack (OpenID Connect), which gives no token for the API"
OLDER_GOOGLE = "an older address of Google's; the discovery document names ours"
OLD_SLACK = "Slack's first OAuth, whose tokens neither expire nor have granular scopes"
RENAMED_X = "twitter.com was renamed; the documentation has x.com only"
WHY = {
    (ALLAUTH, "google", "userinfo_endpoint"): OLDER_GOOGLE,
    (ALLAUTH, "slack", "authorization_endpoint"): LOGIN_ONLY,
    (ALLAUTH, "slack", "token_endpoint"): LOGIN_ONLY,
    (ALLAUTH, "slack", "userinfo_endpoint"): LOGIN_ONLY,
    (ALLAUTH, "shopify", "userinfo_endpoint"): "paths without a version are no longer documented",
    (ALLAUTH, "atlassian", "token_endpoint"): "the documentation and everybody else have auth.atlassian.com",
    (ALLAUTH, "quickbooks", "userinfo_endpoint"): "a connection is to a company, which the callback names",
    (SOCIAL, "google", "authorization_endpoint"): OLDER_GOOGLE,
    (SOCIAL, "google", "token_endpoint"): OLDER_GOOGLE,
    (SOCIAL, "google", "revocation_endpoint"): OLDER_GOOGLE,
    (SOCIAL, "slack", "authorization_endpoint"): OLD_SLACK,
    (SOCIAL, "slack", "token_endpoint"): OLD_SLACK,
    (SOCIAL, "x", "authorization_endpoint"): RENAMED_X,
    (SOCIAL, "x", "token_endpoint"): RENAMED_X,
    (SOCIAL, "facebook", "revocation_endpoint"): "/me is the account of the token that is sent",
}
NEEDED = {"shopify": {"shop": "lovelace-mills"}}

pytestmark = pytest.mark.process  # the other packages have settings of their own

theirs = pytest.mark.parametrize(
    ("package", "provider"),
    [*((ALLAUTH, name) for name in ADAPTERS), *((SOCIAL, name) for name in BACKENDS)],
)


@theirs
def test_a_preset_s_endpoints_are_those_that_others_use(
    package: str, provider: str, configure: Callable[..., None]
) -> None:
    typed = {name: load(provider)["settings"][name] for name in ("client_id", "client_secret")}
    configure(PROVIDERS={provider: {**typed, "variables": NEEDED.get(provider, {})}})
    preset = conf.provider(provider).resolve({})
    endpoints = known()[package][provider]
    assert {"authorization_endpoint", "token_endpoint"} <= endpoints.keys(), "nothing to compare with"

    for endpoint, url in endpoints.items():
        ours = comparable(getattr(preset, endpoint))
        if (package, provider, endpoint) in WHY:
            assert ours != url, f"{endpoint}: both have {url}; the reason why they differ is out of date"
        else:
            assert ours == url, f"{endpoint}: {ours!r}, {package} has {url!r}"


def test_every_provider_is_compared_with_somebody_s() -> None:
    assert set(PROVIDERS) <= {*ADAPTERS, *BACKENDS}


def test_reasons_are_given_for_what_is_compared() -> None:
    for package, provider, endpoint in WHY:
        assert endpoint in known()[package][provider]
