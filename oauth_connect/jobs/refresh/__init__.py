"""Refreshes the connections that are due."""

from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due

__all__ = ["Due", "refresh_due"]
