"""Stores tokens in database rows or in a keyring. The caller passes the row: no model is imported here."""
