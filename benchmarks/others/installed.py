"""The recipes that can run here: ours, those without any package, and those of the installed packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.core.management import call_command

from benchmarks import rows
from benchmarks.others import PACKAGES

ALWAYS = ("with_oauth_connect", "with_nothing")


def recipes(situation: str) -> list[Any]:
    """Return a `Recipe` for each way to do this. They are imported now: their models need the settings."""
    names = [*ALWAYS, *(package.recipes for package in PACKAGES if package.is_installed)]
    found = [recipe for name in names for recipe in import_module(f"benchmarks.others.{name}").RECIPES]
    return [recipe for recipe in found if situation in recipe.situations]


def migrate() -> None:
    """Create the tables of the other packages in the database of this run."""
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)


def prepared(situation: str, count: int = 1) -> list[Any]:
    """Return the recipes, each with a stored token of so many users."""
    migrate()
    users = rows.users(count)
    found = recipes(situation)
    for recipe in found:
        recipe.store(users)
    return found
