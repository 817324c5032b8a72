"""The other tokens of one token response, such as the user's after the bot's, each for its own entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from oauth_connect.conf import conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.errors import ProtocolError, ProviderUnavailable
from oauth_connect.flows.account import Account
from oauth_connect.flows.completion import Completion, exchanged_for_long_lived
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import methods_without_locals


@dataclass(slots=True, repr=False)
class OtherToken:
    """A token of the response for another entry. ``account`` is None until it is identified."""

    completion: Completion
    provider: Provider
    token: Token
    account: Account | None = None


def holds_token(token: Token) -> bool:
    """Return whether there is a token to revoke."""
    return bool(token.access_token or token.refresh_token)


@methods_without_locals
class OtherTokens:
    """Finds the tokens of ``token_response.other_entries`` in a response, and their accounts.

    ``initial``: the values of variables at the start of the flow. Raises ImproperlyConfigured when it is
    created, if an entry is missing or is for another client.
    """

    def __init__(self, provider: Provider, owner: str, initial: Mapping[str, str]) -> None:
        self._entries = conf.other_entries(provider, owner)
        self._requested = [*chain.from_iterable(provider.authorize.extra_scopes.values())]
        self._initial = initial
        self.found: list[OtherToken] = []

    def take(self, token: Token, pairs: Iterable[tuple[str, str]] = ()) -> Token:
        """Take the other tokens out of the response, and return the flow's own token without them.

        ``pairs``: the parameters of the callback. Raises ProviderMisconfigured and ProviderUnavailable for an
        unusable one. What is found until then must be revoked.
        """
        pairs = list(pairs)
        errors = [error for entry in self._entries if (error := self._take(entry, token, pairs))]
        if errors:
            raise errors[0]
        return responses.without_tokens(token, self._entries)

    def _take(
        self, entry: Provider, token: Token, pairs: Iterable[tuple[str, str]]
    ) -> ProtocolError | ProviderUnavailable | None:
        """Take the token of one entry. Return the error of an unusable one."""
        values = {name: value for name, value in self._initial.items() if name in entry.variables}
        provider = entry.resolve_with_client(values)
        failed = None
        try:
            other = responses.other_token(provider, token, requested_scopes=self._requested)
        except (ProtocolError, ProviderUnavailable) as error:
            failed = error
            other = responses.unusable_tokens(provider, 200, token.extra, token.obtained_at)
        if other is not None:
            whole = responses.without_tokens(other, self._entries)
            self.found.append(OtherToken(Completion(entry, values, pairs), provider, whole))
        return failed

    def find_accounts(self) -> None:
        """Find each token's account. Raises CallbackRefused, and the errors of AuthorizationServer."""
        for other in self.found:
            completion = other.completion
            with AuthorizationServer(other.provider, timeout=conf.http_timeout) as server:
                completion.read_token(server, other.token)
                other.token = completion.read_scopes(other.token, self._requested)
                other.token = exchanged_for_long_lived(server, other.token)
                other.account = completion.find_account(server, other.token, nonce=None)
                other.provider = server.provider

    def revoke(self, is_shared: Callable[[OtherToken], bool]) -> None:
        """Revoke the tokens, because they are not stored. ``is_shared``: whether that would end another."""
        for other in self.found:
            if not is_shared(other):
                with AuthorizationServer(other.provider, timeout=conf.http_timeout) as server:
                    revoke(server, other.token)
