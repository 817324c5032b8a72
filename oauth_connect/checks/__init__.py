"""System checks. Each finds one mistake in the settings, and has an id and a hint.

docs/checks.md has a row for each id. To import a module registers its checks.
"""

from oauth_connect.checks import databases, pages, providers, rows, settings

__all__ = ("databases", "pages", "providers", "rows", "settings")
