"""Stores tokens, in database rows or in a keyring. No module here imports a model: the caller passes the row."""
