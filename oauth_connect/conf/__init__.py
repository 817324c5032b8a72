"""The settings of the site, and its providers: built from entries, presets and metadata."""

from oauth_connect.conf.entries import RESERVED, InvalidLoadedEntry, LoaderFailed, UnknownProvider
from oauth_connect.conf.providers import Conf
from oauth_connect.conf.settings import KEY_HINT, KNOWN, MAX_DAYS, names_a_key

__all__ = (
    "KEY_HINT",
    "KNOWN",
    "MAX_DAYS",
    "RESERVED",
    "Conf",
    "InvalidLoadedEntry",
    "LoaderFailed",
    "UnknownProvider",
    "conf",
    "names_a_key",
)

conf = Conf()
