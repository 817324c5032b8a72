"""All that one fake provider knows while it runs."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial

from oauth_connect.protocol.provider import Provider
from oauth_connect.testing.server import shapes
from oauth_connect.testing.server.api import ApiAnswers
from oauth_connect.testing.server.devices import DeviceCode, DeviceCodes
from oauth_connect.testing.server.failures import Failures
from oauth_connect.testing.server.grants import Grants
from oauth_connect.testing.server.messages import Account, AuthorizationRequest, Decision
from oauth_connect.testing.server.rules import CLIENT_SECRET, Rules, rules_of

Asked = AuthorizationRequest | DeviceCode


class State:
    """``form_token``: each form of the console sends it, so that another site's page cannot."""

    def __init__(self, accounts: Sequence[str | Account], lifetime: int) -> None:
        self.accounts = _accounts(accounts)
        self.grants = Grants(_seconds(lifetime))
        self.devices = DeviceCodes()
        self.failures = Failures()
        self.api = ApiAnswers()
        self.url = ""
        self.provider: Provider | None = None
        self._others: dict[str, Provider] = {}
        self.rules = Rules()
        self.sites = 1
        self.is_down = False
        self.form_token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._decisions: deque[Decision] = deque()
        self._asked: dict[str, Asked] = {}

    def serve(self, provider: Provider | None) -> None:
        self.provider, self.rules = provider, rules_of(provider)
        self.grants.write_access_token = partial(shapes.new_access_token, provider)

    def serve_other(self, provider: Provider) -> None:
        self._others[provider.slug] = provider

    @property
    def others(self) -> list[Provider]:
        """The other entries that read a token of this provider's token response."""
        names = self.provider.token_response.other_entries if self.provider else ()
        return [self._others[name] for name in names if name in self._others]

    @property
    def label(self) -> str:
        """The provider's name, for a person."""
        return f"{self.provider.label} (fake)" if self.provider else "Fake provider"

    @property
    def client_secret(self) -> str:
        """The secret that signs the authorization response, where the provider does that."""
        if self.provider is None or not isinstance(self.provider.client_secret, str | list | tuple):
            return CLIENT_SECRET
        return self.provider.secret() if self.provider.client_secret else ""

    def account(self, name: str) -> Account:
        """Return the account with this name. Raises ValueError for an unknown one."""
        for account in self.accounts:
            if account.name == name:
                return account
        names = ", ".join(one.name for one in self.accounts)
        raise ValueError(
            f"account: the fake provider has no {name!r} (it has: {names}). Name it in accounts=[...]."
        )

    def decide_next(self, decision: Decision) -> None:
        with self._lock:
            self._decisions.append(decision)

    @property
    def has_decision(self) -> bool:
        """Return whether the next request is decided already."""
        with self._lock:
            return bool(self._decisions)

    def next_decision(self) -> Decision | None:
        with self._lock:
            return self._decisions.popleft() if self._decisions else None

    def ask(self, asked: Asked) -> str:
        """Remember a request for which a person must decide. Return its id, which nobody can guess."""
        number = secrets.token_urlsafe(24)
        with self._lock:
            self._asked[number] = asked
        return number

    def take_asked(self, number: str) -> Asked | None:
        """Return the request with this id, once."""
        with self._lock:
            return self._asked.pop(number, None)


def _accounts(accounts: Sequence[str | Account]) -> tuple[Account, ...]:
    """Return the accounts. Raises ValueError for none, for a name that is there twice, and for a string."""
    if isinstance(accounts, str):
        raise ValueError(f"accounts: pass a list such as [{accounts!r}], not a string.")
    found = tuple(Account.named(account) for account in accounts)
    names = [account.name for account in found]
    if not all(names) or len(set(names)) != len(names) or not names:
        raise ValueError(f"accounts: give each account a name of its own, not {names!r}.")
    return found


def _seconds(lifetime: object) -> int:
    if not isinstance(lifetime, int) or lifetime < 0:
        raise ValueError(f"lifetime: {lifetime!r} is not a whole number of seconds.")
    return lifetime
