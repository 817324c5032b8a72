"""The imports of forked processes that use the suite's settings (see tests/support/forkserver.py)."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import django
import keyring
from django.conf import empty, settings
from django.db import connections


def after_fork() -> None:
    """Load the settings and the keyring that the environment of this process names."""
    sys.modules.pop(os.environ["DJANGO_SETTINGS_MODULE"], None)
    settings._wrapped = empty  # type: ignore[assignment]
    vars(connections).clear()
    connections.__init__()  # type: ignore[misc]
    keyring.core.init_backend()


django.setup()
importlib.import_module("oauth_connect.views")
commands = importlib.import_module("oauth_connect.management.commands")
for command in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
    importlib.import_module(command.name)
