"""What commands print."""

from __future__ import annotations

from oauth_connect.management.output import table


def test_numbers_are_aligned_to_the_right() -> None:
    assert list(table(("name", "count"), [("a", 5), ("long name", 120)])) == [
        "name       count",
        "a              5",
        "long name    120",
    ]
