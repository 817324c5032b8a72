"""What operations run. ``command`` is what all commands have in common."""
