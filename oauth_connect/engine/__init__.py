"""Keeps a token fresh: one refresh per expiry, however many callers need it, and no token lost.

Works over the ``TokenStore`` protocol and imports no model and no view. Start reading in ``refresh``.
"""
