"""What the preset of a provider does not know for certain, and the changes that its vendor has announced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from oauth_connect import presets
from oauth_connect.errors import InvalidProvider
from oauth_connect.management.doctor.finding import Finding
from oauth_connect.management.providers.summary import entry_of
from oauth_connect.presets.about import day_of

ANNOUNCED = timedelta(days=180)  # before a change comes


def preset_findings(slug: str) -> Iterator[Finding]:
    """Yield a warning for doubtful data, and for each change that comes soon.

    A change that came after the data was read is not in the data, so it is reported too.
    """
    subject = f"Preset of {slug}"
    try:
        about = presets.about(entry_of(slug).get("preset", slug))
    except InvalidProvider as error:
        yield Finding(
            subject, "warning", f"{error}.", "Correct its table about; --lint of oauth_providers checks it."
        )
        return
    if about is None:
        return
    details = f"See oauth_providers {slug}, and compare it with the provider's documentation."
    if about.doubts:
        yield Finding(subject, "warning", f"{about.doubts}.", details)
    soon = datetime.now(UTC).date() + ANNOUNCED
    for change in about.changes:
        if day_of(about.read) < change.day <= soon:
            yield Finding(subject, "warning", f"from {change.on}: {change.what}", details)
