"""How a token is kept fresh: one refresh per expiry, however many ask, and no token lost.

Works over the ``TokenStore`` protocol; knows no model and no view. Begin with ``refresh``.
"""
