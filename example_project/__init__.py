"""What `manage.py` runs: a small site, the service that it connects to, and a demo of both."""
