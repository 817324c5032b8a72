"""What requests does for each session and each request, without the parts that have no effect.

requests builds two adapters for a session, which ours replace. For each request it merges empty tables and
copies empty cookie jars, parses a URL that is normal already, and checks headers that it has checked before.
That is a fifth of the cost of a call. The results here are equal to those of requests. A method of requests
that a tool has replaced is called as it is.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from http.cookiejar import CookieJar
from types import FunctionType
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar, cookiejar_from_dict, merge_cookies
from requests.exceptions import InvalidHeader
from requests.hooks import default_hooks
from requests.models import DEFAULT_REDIRECT_LIMIT
from requests.sessions import merge_hooks, merge_setting
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity, default_headers, to_native_string

MAX_ENTRIES = 256
# ``PreparedRequest.prepare_url`` changes nothing in such a URL: lower case, no escapes, no dot segments.
_NORMAL_URL = re.compile(
    r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
    r"(?:/|(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)+/?)"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]+)?"
)
_EMPTY = (dict, list, tuple, str, bytes, type(None))
_INIT = requests.Session.__init__
_PREPARE = requests.Session.prepare_request
# requests declares less than it accepts.
_merge: Any = merge_setting
_merge_hooks: Any = merge_hooks
_merge_jars: Any = merge_cookies
_jar_of: Any = cookiejar_from_dict
_native: Any = to_native_string


def _first_values(adapter: BaseAdapter | None) -> dict[str, Any]:
    """Return the attributes of a new session, with one adapter for all URLs."""
    return {
        "headers": default_headers(),
        "auth": None,
        "proxies": {},
        "hooks": default_hooks(),
        "params": {},
        "stream": False,
        "verify": True,
        "cert": None,
        "max_redirects": DEFAULT_REDIRECT_LIMIT,
        "trust_env": True,
        "cookies": RequestsCookieJar(),
        "adapters": OrderedDict([("https://", adapter), ("http://", adapter)]),
    }


def _is_original(method: object) -> bool:
    """Return whether a method is that of requests. Tools that trace or test calls replace methods."""
    return isinstance(method, FunctionType) and method.__globals__ is vars(requests.sessions)


# Another version of requests may have other attributes.
_IS_KNOWN = vars(requests.Session()).keys() == _first_values(None).keys()
_BEGINS_HERE = _IS_KNOWN and _is_original(_INIT)
_PREPARES_HERE = _is_original(_PREPARE)
_HAS_STORE = type(getattr(CaseInsensitiveDict(), "_store", None)) is OrderedDict


def begin(session: requests.Session, adapter: BaseAdapter) -> None:
    """Do what ``requests.Session.__init__`` does, and mount the adapter for all URLs."""
    if _BEGINS_HERE and requests.Session.__init__ is _INIT:
        vars(session).update(_first_values(adapter))
        return
    requests.Session.__init__(session)
    for prefix in ("https://", "http://"):
        session.mount(prefix, adapter)


@lru_cache(maxsize=MAX_ENTRIES)
def _first_headers(added: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    """Return the headers of a new session, and what they are when prepared. ``added``: those of the entry."""
    own: Any = default_headers()
    own.update(added)
    try:
        return own._store, _prepared_headers(requests.PreparedRequest(), {}, own)._store
    except InvalidHeader:
        return None, None


def _with_store(store: Any) -> Any:
    headers: Any = CaseInsensitiveDict.__new__(CaseInsensitiveDict)
    headers._store = store
    return headers


class Preparation:
    """Prepares the requests of one session. It keeps the session's headers, as they were last prepared.

    ``added``: the headers that the session has besides those of requests.
    """

    def __init__(self, added: Mapping[str, str]) -> None:
        self._kept = _first_headers(tuple(added.items())) if _HAS_STORE else (None, None)

    def prepare(self, session: requests.Session, request: requests.Request) -> requests.PreparedRequest:
        """Return what ``requests.Session.prepare_request`` returns."""
        # Without an ``auth``, requests reads .netrc.
        if not session.auth or not _PREPARES_HERE or requests.Session.prepare_request is not _PREPARE:
            return requests.Session.prepare_request(session, request)
        prepared: Any = requests.PreparedRequest()
        asked: Any = request
        prepared.prepare_method(asked.method.upper())
        _prepare_url(prepared, asked, session)
        prepared.headers = self._headers(prepared, asked, session)
        _prepare_cookies(prepared, asked, session)
        _prepare_body(prepared, asked)
        prepared.prepare_auth(_merge(asked.auth, session.auth), asked.url)
        prepared.prepare_hooks(_merge_hooks(asked.hooks, session.hooks))
        return prepared  # type: ignore[no-any-return]

    def _headers(self, prepared: Any, request: Any, session: Any) -> Any:
        own, given = session.headers, request.headers
        if _HAS_STORE and type(own) is CaseInsensitiveDict and type(given) is dict:
            store = self._own_headers(prepared, own._store)  # type: ignore[attr-defined]
            # Otherwise one is None, and its place counts if the request names it.
            if store is not None and (not given or len(store) == len(own)):
                headers = _with_store(store.copy())
                _add(headers, given)
                return headers
        return _prepared_headers(prepared, given, own)

    def _own_headers(self, prepared: Any, own: Any) -> Any:
        """Return the session's headers as they are when prepared, or None if one is invalid."""
        seen, store = self._kept
        if seen != own:
            seen = own.copy()
            try:
                store = _prepared_headers(prepared, {}, _with_store(seen))._store
            except InvalidHeader:  # the request may name another value
                return None
            self._kept = seen, store  # one assignment, because threads may share the session
        return store


def _prepared_headers(prepared: Any, given: Any, own: Any) -> Any:
    prepared.prepare_headers(_merge(given, own, dict_class=CaseInsensitiveDict))
    return prepared.headers


def _add(headers: CaseInsensitiveDict[Any], given: Mapping[Any, Any]) -> None:
    """Add the headers of a request, which win over those of the session. None removes one."""
    for name, value in given.items():
        if value is None:
            headers.pop(name, None)
        else:
            check_header_validity((name, value))
            headers[_native(name)] = value


def _prepare_url(prepared: Any, request: Any, session: requests.Session) -> None:
    url = request.url
    if request.params or session.params:
        prepared.prepare_url(url, _merge(request.params, session.params))
    elif type(url) is str and _NORMAL_URL.fullmatch(url):
        prepared.url = url
    else:
        prepared.prepare_url(url, None)


def _prepare_cookies(prepared: Any, request: Any, session: requests.Session) -> None:
    if not request.cookies and not session.cookies:
        prepared._cookies = RequestsCookieJar()
        return
    given = request.cookies or {}
    if not isinstance(given, CookieJar):
        given = _jar_of(given)
    own = _merge_jars(RequestsCookieJar(), session.cookies)
    prepared.prepare_cookies(_merge_jars(own, given))


def _prepare_body(prepared: Any, request: Any) -> None:
    if request.json is None and not request.files and type(request.data) in _EMPTY and not request.data:
        prepared.prepare_content_length(None)
    else:
        prepared.prepare_body(request.data, request.files, request.json)
