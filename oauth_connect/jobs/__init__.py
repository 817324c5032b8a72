"""Work on many rows: what a command, a task or the admin runs."""
