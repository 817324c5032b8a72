"""Bridges to packages that not every site has. Nothing imports them, and they do not import one another."""
