"""How a provider stands before a run: whether its connections can be refreshed, and how many at once."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.jobs.refresh.outcomes import Outcome, outcome_of
from oauth_connect.models.lifecycle import provider_health


def why_unavailable(slug: str, alias: str) -> Outcome | None:
    """Say why no connection of a provider should be tried now; None where nothing is known."""
    if conf.loads_providers:
        return None  # it may differ by owner
    try:
        provider = conf.declared_provider(slug)
    except ImproperlyConfigured as error:
        return outcome_of(error)
    if not provider.enabled:
        return Outcome("skipped", "provider_disabled")
    return Outcome("skipped", "back_off") if provider_health.is_backed_off(alias, provider) else None


def max_concurrency(slug: str, otherwise: int) -> int:
    """How many requests a provider gets at once, where its entry says."""
    return otherwise if conf.loads_providers else conf.declared_provider(slug).refresh.at_once or otherwise
