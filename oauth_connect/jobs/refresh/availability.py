"""Checks a provider before a run: can its connections be refreshed, and how many in parallel?"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.jobs.refresh.outcomes import Outcome, outcome_of
from oauth_connect.models.lifecycle import provider_health


def why_unavailable(slug: str, alias: str) -> Outcome | None:
    """Return why a run should skip the provider; None where no reason is known."""
    if conf.loads_providers:
        return None  # settings may differ by owner
    try:
        provider = conf.declared_provider(slug)
    except ImproperlyConfigured as error:
        return outcome_of(error)
    if not provider.enabled:
        return Outcome("skipped", "provider_disabled")
    return Outcome("skipped", "back_off") if provider_health.is_backed_off(alias, provider) else None


def max_concurrency(slug: str, default: int) -> int:
    """Return how many requests may be sent to a provider in parallel: from its entry, or the default."""
    return default if conf.loads_providers else conf.declared_provider(slug).refresh.at_once or default
