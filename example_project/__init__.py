"""The project of `manage.py`: a small site, the service that it connects to, and a demo of both."""
