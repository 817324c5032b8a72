"""Scopes as servers write them: under another name, as an umbrella, implied, in another case.

RFC 6749 section 3.3 lets a server grant other scopes than were requested. Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

Pairs = Iterable[tuple[str, str]]


def named_scopes(provider: Provider, value: object) -> list[str]:
    """Return the scopes that the ``scope`` of a token response names."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    separator = provider.token_response.scope_separator
    named = chain.from_iterable(text.replace(separator, " ").split() for text in texts)
    # Some databases refuse unprintable characters. A failed save would lose the token.
    return [scope for scope in named if scope.isprintable()]


def granted_scopes(provider: Provider, value: object, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the granted scopes (RFC 6749 section 3.3), or the requested ones if the response omits them.

    A scope bears the name under which it was requested. Drop those that were not requested, unless the
    provider sets ``wider_scopes``. Those of ``authorize.extra_scopes`` were requested too, but may be
    optional, so they are not assumed.
    """
    if value is None:
        return requested
    named = named_scopes(provider, value)
    if requested:
        asked = (*requested, *chain.from_iterable(provider.authorize.extra_scopes.values()))
        parts = [part for scope in named for part in _without_commas(provider, scope, asked)]
        named = [name for scope in parts for name in _as_requested(provider, scope, asked)]
    return tuple(dict.fromkeys(named))


def _without_commas(provider: Provider, scope: str, requested: tuple[str, ...]) -> list[str]:
    """Return scopes that commas join, if one of them was requested. A comma may also be part of a scope."""
    keys = {_key(provider, one) for one in requested}
    parts = scope.split(",")
    is_list = _key(provider, scope) not in keys and any(_key(provider, part) in keys for part in parts)
    return [part for part in parts if part] if is_list else [scope]


def _as_requested(provider: Provider, scope: str, requested: tuple[str, ...]) -> list[str]:
    """Return the requested scopes that a granted one stands for, or itself as a part of a requested one."""
    key = _key(provider, scope)
    if same := [one for one in requested if _key(provider, one) == key]:
        return same
    if provider.token_response.wider_scopes:
        return [scope]
    included = included_scopes(provider, [scope])
    if stands_for := [one for one in requested if _key(provider, one) in included]:
        return stands_for
    return [scope] if key in included_scopes(provider, requested) else []


def included_scopes(provider: Provider, scopes: Iterable[str]) -> set[str]:
    """Return the scopes and all that they include by ``scope_aliases``, to compare with ``_key``."""
    aliases: dict[str, list[str]] = {}
    for scope, includes in provider.scope_aliases.items():
        aliases.setdefault(_key(provider, scope), []).extend(includes)
    found: set[str] = set()
    left = list(scopes)
    while left:
        key = _key(provider, left.pop())
        if key not in found:
            found.add(key)
            left += aliases.get(key, ())
    return found


def cover(provider: Provider, scopes: Iterable[str], wanted: Iterable[str]) -> bool:
    """Return whether ``scopes`` include all the wanted ones."""
    included = included_scopes(provider, scopes)
    return all(_key(provider, scope) in included for scope in wanted)


def _key(provider: Provider, scope: str) -> str:
    return scope.casefold() if provider.token_response.scopes_ignore_case else scope


# --- consent --------------------------------------------------------------------------------------


def consented_scopes(
    provider: Provider, token: Token, requested: Iterable[str], callback: Pairs = ()
) -> list[str]:
    """Return the requested scopes without those that the user has visibly refused.

    Most token responses do not show a refusal, because servers leave out scopes that another one implies.
    """
    requested = list(requested)
    if not token.names_scopes:
        return _consented_by_callback(provider, requested, callback)
    if not provider.token_response.lists_all_scopes:
        return requested
    included = included_scopes(provider, token.scopes)
    return [scope for scope in requested if _key(provider, scope) in included]


def _consented_by_callback(provider: Provider, requested: list[str], callback: Pairs) -> list[str]:
    """Return the requested scopes that the callback names, in any case.

    A callback that names none of them says nothing: either it has no scopes, or it has other names for them.
    """
    included = {scope.casefold() for scope in included_scopes(provider, _callback_scopes(provider, callback))}
    named = [scope for scope in requested if _key(provider, scope).casefold() in included]
    return named or requested


def without_refused(token: Token, consented: Iterable[str]) -> Token:
    """Return a token without refused scopes, if its response named none, so that they are only assumed.

    The callback is the browser's word, so it may only narrow them.
    """
    if token.names_scopes:
        return token
    kept = set(consented)
    return replace(token, scopes=tuple(scope for scope in token.scopes if scope in kept))


def _callback_scopes(provider: Provider, callback: Pairs) -> list[str]:
    """Return what the callback's ``scope`` names, separated as in the request, by commas or by spaces."""
    said = " ".join(value for name, value in callback if name == "scope")
    return said.replace(provider.authorize.scope_separator or " ", " ").replace(",", " ").split()
