"""Jobs that work on many rows. Commands, tasks and the admin run them."""
