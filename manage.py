#!/usr/bin/env python
"""Runs the example project's site: first `manage.py migrate`, then `manage.py runserver`."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.site.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
