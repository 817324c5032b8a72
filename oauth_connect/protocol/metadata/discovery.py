"""Authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0).

A document is accepted only if its ``issuer`` equals the requested issuer exactly (RFC 8414 section 3.3). Its
endpoints must be https URLs without a fragment, as in the settings, and must not have a private address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import requests

from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable, printable_line
from oauth_connect.protocol.grants import bodies, refusals
from oauth_connect.protocol.net.addresses import AddressGuard, AddressRefused
from oauth_connect.protocol.net.causes import CAUSES, UNREACHABLE, cause_of, detail_of, explained
from oauth_connect.protocol.net.destination import endpoint_problem
from oauth_connect.protocol.net.guarded import guarded_session
from oauth_connect.protocol.net.transport import (
    CHUNK,
    BodyTooLarge,
    deadline,
    read_capped,
    remaining,
)
from oauth_connect.protocol.provider import ENDPOINTS, Provider
from oauth_connect.protocol.quirks import ClientAuthentication, GrantType
from oauth_connect.protocol.templates import has_brace
from oauth_connect.redaction import redacted
from oauth_connect.tracebacks import methods_without_locals, without_locals

OPENID = "openid-configuration"
WELL_KNOWN = ("oauth-authorization-server", OPENID)
SUPPORTED = (
    "code_challenge_methods_supported",
    "token_endpoint_auth_methods_supported",
    "scopes_supported",
    "revocation_endpoint_auth_methods_supported",
    "grant_types_supported",
)
ISS = "authorization_response_iss_parameter_supported"
CODE = "authorization_code"
USED_FIELDS = ("issuer", *ENDPOINTS, ISS, *SUPPORTED)
MIN_AGE, MAX_AGE, DEFAULT_AGE = 300, 86_400, 3_600  # seconds for which a document is fresh
MAX_URL = 2048
MAX_SHOWN = 200  # characters of a document in an error
METHODS: tuple[ClientAuthentication, ...] = ("client_secret_basic", "client_secret_post")
_MAX_AGE = re.compile(r'(?:^|[\s,])max-age="?(\d{1,12})\b', re.IGNORECASE)
_UNCACHED = re.compile(r"(?:^|[\s,])no-(?:store|cache)\b", re.IGNORECASE)


@methods_without_locals
@dataclass(frozen=True, kw_only=True, repr=False)
class GuardedProvider(Provider):
    """A provider whose endpoints the settings did not name. Connections to them are guarded.

    ``from_loader``: its entry may contain a user's text. ``guards_api``: calls to its API are guarded too.
    """

    addresses: AddressGuard = field(default_factory=AddressGuard)
    from_loader: bool = False
    guards_api: bool = False

    @property
    def guard(self) -> AddressGuard:
        return self.addresses

    @property
    def api_guard(self) -> AddressGuard | None:
        return self.addresses if self.guards_api else None

    @property
    def has_several_servers(self) -> bool:
        return self.from_loader or super().has_several_servers


@dataclass(frozen=True, slots=True)
class Metadata:
    """The used fields of a document, under their RFC 8414 names. None means that the document omits it."""

    endpoints: Mapping[str, str]
    authorization_response_iss_parameter_supported: bool = False
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    scopes_supported: tuple[str, ...] | None = None
    revocation_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None

    def fields_for(self, declared: Provider) -> dict[str, Any]:
        """Return the fields of Provider that the server decides. ``declared`` comes from the settings.

        Raises ProviderMisconfigured if server and settings have no method in common.
        """
        self._check_pkce(declared)
        fields: dict[str, Any] = {**self.endpoints, ISS: self.authorization_response_iss_parameter_supported}
        if declared.token_endpoint_auth_method is None:
            fields["token_endpoint_auth_method"] = self._client_authentication(declared)
        method = declared.token_endpoint_auth_method or fields["token_endpoint_auth_method"]
        if declared.has_secret and (other := self._revocation_authentication(method)):
            fields["revocation"] = {"authentication": other}
        # Servers often leave other grants out of the list, so only users' connections depend on it.
        if self.grant_types_supported and CODE not in self.grant_types_supported:
            fields["grant_types"] = [grant for grant in get_args(GrantType) if grant != CODE]
        if "userinfo_endpoint" in self.endpoints and "openid" in (self.scopes_supported or ()):
            fields["scopes"] = ["openid"]  # the smallest scope for the userinfo endpoint
        return fields

    def _check_pkce(self, declared: Provider) -> None:
        """Refuse a server without S256 (RFC 7636 section 7.2). If it declares no methods, S256 is sent."""
        methods, sent = self.code_challenge_methods_supported, declared.authorize.code_challenge_method
        if methods and sent != "none" and not {"S256", sent}.intersection(methods):
            raise ProviderMisconfigured(
                f"{declared.label} offers PKCE without S256, but this package requires S256.",
                error="pkce_not_supported",
            )

    def _client_authentication(self, declared: Provider) -> ClientAuthentication:
        if not declared.has_secret:
            return "none"
        # The default is Basic (RFC 8414 section 2).
        supported = self.token_endpoint_auth_methods_supported or METHODS[:1]
        for method in METHODS:
            if method in supported:
                return method
        raise ProviderMisconfigured(
            f"{declared.label} supports neither {' nor '.join(METHODS)} for the client secret.",
            error="client_authentication_not_supported",
        )

    def _revocation_authentication(self, at_token_endpoint: ClientAuthentication) -> str:
        """Return the method for revocations, or "" if that of the token endpoint is right there too."""
        supported = self.revocation_endpoint_auth_methods_supported or (at_token_endpoint,)
        if at_token_endpoint in supported:
            return ""
        return next((method for method in (*METHODS, "none") if method in supported), "")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The used part of a document, and the number of seconds for which it is fresh."""

    document: Mapping[str, Any]
    metadata: Metadata
    max_age: float


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return the possible URLs of an issuer's document, in the order to try.

    RFC 8414 (sections 3.1 and 5) inserts the well-known part before the issuer's path. OpenID Connect
    Discovery (section 4.1) appends it.
    """
    scheme, _, rest = issuer.partition("://")
    host, _, path = rest.partition("/")
    origin = f"{scheme}://{host}"
    path = f"/{path}".rstrip("/")
    inserted = [f"{origin}/.well-known/{name}{path}" for name in WELL_KNOWN]
    return tuple(dict.fromkeys([*inserted, f"{origin}{path}/.well-known/{OPENID}"]))


@without_locals
def fetch(issuer: str, *, guard: AddressGuard, timeout: float = 15.0) -> Fetched:
    """Fetch an issuer's document. ``timeout`` is in seconds, for all URLs together.

    Raises ProviderUnavailable for a transient error, and ProviderMisconfigured for any other error.
    """
    failures: list[ProviderUnavailable | ProviderMisconfigured] = []
    with guarded_session(guard) as session, deadline(timeout):
        for url in metadata_urls(issuer):
            try:
                return _fetch_from(session, url, issuer, guard)
            except (ProviderUnavailable, ProviderMisconfigured) as failure:
                failures.append(failure)
                if failure.code in CAUSES or failure.code == "forbidden_address":
                    break
    raise min(failures, key=_rank).with_traceback(None)


def read_metadata(issuer: str, document: object, guard: AddressGuard) -> Metadata:
    """Return the metadata of a document. Raises ProviderMisconfigured if it is not valid for this issuer."""
    if not isinstance(document, Mapping):
        raise _invalid(issuer, "is not a JSON object")
    if document.get("issuer") != issuer:
        named = redacted(printable_line(document.get("issuer") or "none", MAX_SHOWN))
        raise _invalid(
            issuer, f"names another issuer ({named}); both must be exactly equal", "issuer_mismatch"
        )
    endpoints = {name: document[name] for name in ENDPOINTS if document.get(name)}
    for name, url in endpoints.items():
        if problem := _problem_of(url, guard):
            raise _invalid(issuer, f"has an invalid {name} ({problem.rstrip('.')})", "bad_endpoint")
    if "token_endpoint" not in endpoints:
        raise _invalid(issuer, "has no token_endpoint")
    iss = document.get(ISS)
    if iss is not None and not isinstance(iss, bool):
        raise _invalid(issuer, f"has neither true nor false in {ISS}")
    return Metadata(endpoints, iss or False, *(_strings(issuer, document, name) for name in SUPPORTED))


def max_age(cache_control: str) -> float:
    """Return the max-age of Cache-Control (RFC 9111 section 5.2) in seconds, from five minutes to a day.

    The default is an hour.
    """
    if _UNCACHED.search(cache_control):
        return MIN_AGE
    found = _MAX_AGE.search(cache_control)
    return min(max(int(found[1]), MIN_AGE), MAX_AGE) if found else DEFAULT_AGE


def _fetch_from(session: requests.Session, url: str, issuer: str, guard: AddressGuard) -> Fetched:
    try:
        with session.get(url, timeout=remaining(), allow_redirects=False, stream=True) as response:
            body = read_capped(response.iter_content(CHUNK)) if response.status_code == 200 else b""
    except AddressRefused as refused:
        raise ProviderMisconfigured(str(refused), error="forbidden_address") from None
    except BodyTooLarge:
        raise _invalid(issuer, "is larger than 1 MiB") from None
    except requests.RequestException as error:
        raise _unreachable(issuer, url, cause_of(error), detail_of(error)) from None
    except OSError:  # the deadline passed
        raise _unreachable(issuer, url) from None
    _check_status(issuer, response)
    found = _json(issuer, response.headers.get("Content-Type", ""), body)
    metadata = read_metadata(issuer, found, guard)
    document = {name: found[name] for name in USED_FIELDS if name in found}
    if f"/.well-known/{OPENID}" in url and not metadata.scopes_supported:
        # The field may be left out, and every OpenID provider supports this scope (Discovery section 3).
        document |= {"scopes_supported": ["openid"]}
        metadata = replace(metadata, scopes_supported=("openid",))
    return Fetched(document, metadata, max_age(response.headers.get("Cache-Control", "")))


def _unreachable(issuer: str, url: str, cause: str = UNREACHABLE, detail: str = "") -> ProviderUnavailable:
    return ProviderUnavailable(
        f"{issuer} cannot be reached to read its metadata. {explained(cause, url, detail)}", code=cause
    )


def _check_status(issuer: str, response: requests.Response) -> None:
    status = response.status_code
    if refusals.is_transient_status(status):
        raise ProviderUnavailable(
            f"{issuer} responded to the metadata request with HTTP {status}. Try again later.",
            code=f"http_{status}",
        )
    if status != 200:
        raise ProviderMisconfigured(
            f"{issuer} publishes no metadata (HTTP {status}; redirects are not followed). "
            "Correct the issuer, or write the endpoints into the settings.",
            error="redirected" if 300 <= status < 400 else f"http_{status}",
            status=status,
        )


def _json(issuer: str, content_type: str, body: bytes) -> Any:
    """Return the JSON object of a document. Its Content-Type must be JSON (RFC 8414 section 3.2)."""
    found = bodies.read_body(content_type, body)
    if found is None or bodies.is_json(content_type):
        return found
    kind = printable_line(bodies.media_type(content_type), MAX_SHOWN) or "none"
    raise _invalid(issuer, f"has the wrong Content-Type ({kind}); it must be application/json")


def _problem_of(url: object, guard: AddressGuard) -> str:
    if not isinstance(url, str) or len(url) > MAX_URL or not url.isprintable() or " " in url:
        return "it is not a URL."
    if has_brace(url):
        return "it is a template."
    return endpoint_problem(url) or guard.url_problem(url)


def _strings(issuer: str, document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Return the strings of a field that should be a list. Some servers send one string with spaces."""
    found = document.get(name)
    if found is None:
        return None
    found = found.split() if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _invalid(issuer, f"has no list of strings in {name}")
    return tuple(found)


def _invalid(issuer: str, why: str, error: str = "bad_metadata") -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"The metadata of {issuer} {why}. Correct the issuer, or write the endpoints into the settings.",
        error=error,
    )


def _rank(failure: ProviderUnavailable | ProviderMisconfigured) -> int:
    """Return the rank of an error to report: first transient, then an invalid document, then no document."""
    if isinstance(failure, ProviderUnavailable):
        return 0
    return 2 if failure.status else 1
