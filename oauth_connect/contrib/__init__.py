"""Adapters for optional packages. No other module imports them, and they do not import each other."""
