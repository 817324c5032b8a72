"""The management commands, their output and their reports. ``base`` has the base class of the commands."""
