"""Badges and human time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import oauth_connect
from oauth_connect.admin import display
from oauth_connect.models import Connection, ConsumedState

STYLES = Path(oauth_connect.__file__).parent / "static/oauth_connect/admin.css"
MOMENTS = {
    timedelta(seconds=30): "in less than a minute",
    timedelta(minutes=25, seconds=5): "in 25 minutes",
    timedelta(hours=1, minutes=59): "in 1 hour",
    timedelta(days=8): "in 1 week",
    timedelta(seconds=-3): "just now",
    timedelta(minutes=-1, seconds=-1): "1 minute ago",
    timedelta(hours=-3, seconds=-5): "3 hours ago",
    timedelta(days=-800): "2 years ago",
}


@pytest.mark.parametrize(("distance", "words"), MOMENTS.items(), ids=MOMENTS.values())
def test_a_time_is_shown_in_its_largest_unit(distance, words):
    assert display.relative(datetime.now(UTC) + distance).replace("\xa0", " ") == words


def test_the_exact_time_is_shown_too():
    moment = datetime(2020, 2, 29, 12, tzinfo=UTC)
    assert 'datetime="2020-02-29T12:00:00+00:00"' in display.moment_in_list(moment)
    assert "Feb. 29, 2020" in display.moment_in_full(moment)


@pytest.mark.parametrize(
    ("left", "warning"),
    [(timedelta(days=31), None), (timedelta(days=29), "soon"), (timedelta(days=-1), "has passed")],
)
def test_a_deadline_warns_once_it_is_near(left, warning):
    words = display.deadline(datetime.now(UTC) + left)
    assert ("oauth-badge" in words) == (warning is not None)
    assert (warning or "") in words


def test_every_status_has_a_badge_that_says_it_in_words():
    for status in Connection.Status:
        badge = display.status_badge(Connection(status=status))
        assert f'class="oauth-badge oauth-{display.BADGES[status]}"' in badge
        assert str(status.label) in badge


def test_what_is_shown_is_escaped():
    assert "<b>" not in display.badge("bad", "<b>")
    assert "<b>" not in display.link("/x/", "<b>")


def test_a_model_that_the_admin_does_not_know_has_no_page():
    assert display.change_url(ConsumedState, "x", "admin") == ""
    assert display.link("", "x") == "x"


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", ["good", "warning", "bad", "over"])
def test_the_badges_can_be_read_in_every_theme(kind):
    """WCAG 2.2, 1.4.6: a contrast of 7 to 1."""
    css = STYLES.read_text("utf-8")
    inks, papers = (re.findall(rf"--oauth-{kind}{part}: (#\w{{6}});", css) for part in ("", "-bg"))
    assert len(inks) == len(papers) == 3, "light, dark by the system, dark by choice"
    for ink, paper in zip(inks, papers, strict=True):
        light, dark = sorted([luminance(ink), luminance(paper)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 7
