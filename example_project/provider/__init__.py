"""Codeyard: a small code-hosting service with an OAuth 2.0 authorization server and an API."""
