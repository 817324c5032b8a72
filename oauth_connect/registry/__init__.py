"""The providers of the site, built from their entries, their presets and the metadata of their issuers."""

from oauth_connect.registry.entries import RESERVED, InvalidLoadedEntry, UnknownProvider
from oauth_connect.registry.providers import Registry

__all__ = ("RESERVED", "InvalidLoadedEntry", "Registry", "UnknownProvider", "registry")

registry = Registry()
