"""A Django reusable app that is an OAuth 2.0 client: connect accounts, call their APIs."""

__version__ = "0.1.0"
