"""Stores tokens in the machine's keyring, for command-line tools. Needs the extra ``keyring``, but no Django.

It needs no database and no settings. A caller passes a ``Provider``.
"""

from oauth_connect.stores.keyring.account import Forgotten, forget, keep
from oauth_connect.stores.keyring.backend import usable_backend
from oauth_connect.stores.keyring.session import session_for, source_for
from oauth_connect.stores.keyring.store import KeyringStore

__all__ = ["Forgotten", "KeyringStore", "forget", "keep", "session_for", "source_for", "usable_backend"]
