from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandParser

from oauth_connect import presets
from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.management.base import Command as Base
from oauth_connect.management.output import table
from oauth_connect.management.redirect_uris import redirect_uri
from oauth_connect.protocol.provider import ENDPOINTS, Provider
from oauth_connect.protocol.quirks import Variable

NO_CLIENT = {"client_id": "...", "client_secret": "..."}
LOCATIONS = ("issuer", *ENDPOINTS, "api_base_url")


@dataclass(frozen=True, slots=True)
class Summary:
    """A row of the table. ``kind`` is configured, disabled or preset. ``problem`` says what is wrong."""

    name: str
    kind: str
    label: str = ""
    flows: tuple[str, ...] = ()
    pkce: str = ""
    refresh: str = ""
    rotation: str = ""
    needs: tuple[str, ...] = ()
    problem: str = ""

    def cells(self) -> tuple[str, ...]:
        if self.problem:
            return (self.name, self.kind, f"WRONG: {self.problem}", "", "", "", "")
        flows, needs = (", ".join(found) or "-" for found in (self.flows, self.needs))
        return (self.name, self.kind, flows, self.pkce, self.refresh, self.rotation, needs)


class Command(Base):
    help = (
        "Lists the configured providers and the presets. With a name, shows the settings to paste and the "
        "redirect URI to register."
    )
    needs_time_zone = False  # no database is used
    examples = """\
  manage.py oauth_providers            all of them
  manage.py oauth_providers NAME       one, with the settings to paste and the redirect URI to register
  manage.py oauth_providers --json"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("slug", nargs="?", metavar="SLUG", help="a configured provider or a preset")

    def work(self, **options: Any) -> None:
        if options["slug"]:
            self._show(options["slug"])
        else:
            self._list()

    # --- all ------------------------------------------------------------------------------------

    def _list(self) -> None:
        found = [*map(configured, conf.provider_slugs)]
        unused = [name for name in presets.names() if name not in conf.provider_slugs]
        found += map(preset, unused)
        head = ("name", "kind", "flows", "PKCE", "refresh", "rotation", "needs")
        for text in table(head, [summary.cells() for summary in found if not summary.problem]):
            self.line(text)
        wrong = [summary for summary in found if summary.problem]
        for summary in wrong:
            self.line(f"{summary.name}: WRONG: {summary.problem}", verbosity=0)
        self.document({"providers": [asdict(summary) for summary in found]})
        if wrong:
            self.failed(f"Wrong: {', '.join(summary.name for summary in wrong)}.")

    # --- one ------------------------------------------------------------------------------------

    def _show(self, slug: str) -> None:
        try:
            provider, summary = conf.declared_provider(slug), configured(slug)
        except UnknownProvider:
            summary = preset(slug)
            if presets.load(slug) is None or summary.problem:
                known = ", ".join(dict.fromkeys([*conf.provider_slugs, *presets.names()]))
                self.usage_error(f"There is no provider and no preset {slug!r}. There are: {known}.")
            provider = example(slug)
        with suppress(InvalidProvider):  # a missing value: endpoints show their variables
            provider = provider.resolve({})
        uri = redirect_uri(slug)
        paste = list(pasted(slug, provider))
        for text in described(provider, summary):
            self.line(text)
        self.line("\nRedirect URI to register at the provider:")
        self.line(f"  {uri.uri or uri.problem or uri.note}")
        self.line("\nSettings:")
        for text in paste:
            self.line(f"  {text}")
        self.document(
            {
                **asdict(summary),
                "documentation": provider.documentation,
                "endpoints": {name: getattr(provider, name) for name in LOCATIONS},
                "client_authentication": provider.client_authentication,
                "scopes": list(provider.scopes),
                "api_hosts": list(provider.api_hosts),
                "redirect_uri": uri.uri,
                "redirect_uri_problem": uri.problem or uri.note,
                "settings": "\n".join(paste),
            }
        )


def configured(slug: str) -> Summary:
    try:
        provider = conf.declared_provider(slug)
    except UnknownProvider:
        raise
    except ImproperlyConfigured as error:
        return Summary(slug, "configured", problem=str(error))
    return summary_of(provider, "configured" if provider.enabled else "disabled", variables(provider))


def preset(name: str) -> Summary:
    try:
        provider = example(name)
    except InvalidProvider as error:
        return Summary(name, "preset", problem=str(error))
    client = ["client_id"]
    if provider.client_authentication != "none":
        client.append("client_secret")
    scopes = () if provider.scopes else ("scopes",)
    return summary_of(provider, "preset", (*client, *scopes, *variables(provider)))


def example(name: str) -> Provider:
    """Return a preset as a provider, with placeholders for the client's credentials."""
    return Provider.from_mapping(name, presets.merge(NO_CLIENT, presets.load(name) or {}))


def variables(provider: Provider) -> tuple[str, ...]:
    """Return the names of the variables that need a value."""
    return tuple(
        name
        for name, variable in provider.variables.items()
        if not variable.is_late and variable.value_of(variable.default) is None
    )


def summary_of(provider: Provider, kind: str, needs: tuple[str, ...]) -> Summary:
    flows = {
        "code": provider.authorization_endpoint,
        "device": provider.device_authorization_endpoint,
        "discovered": provider.needs_discovery,
    }
    return Summary(
        name=provider.slug,
        kind=kind,
        label=provider.label,
        flows=tuple(flow for flow, available in flows.items() if available),
        pkce=provider.authorize.code_challenge_method,
        refresh=refreshing(provider),
        rotation=provider.refresh.rotation,
        needs=needs,
    )


def refreshing(provider: Provider) -> str:
    """Return whether the provider issues a refresh token, or how else it renews a token."""
    rules = provider.refresh
    return {"grant": rules.expected, "exchange_access_token": "exchange", "none": "never"}[rules.style]


def described(provider: Provider, summary: Summary) -> Iterator[str]:
    fields: dict[str, str] = {
        "kind": summary.kind,
        "documentation": provider.documentation,
        "flows": ", ".join(summary.flows),
        "PKCE": summary.pkce,
        "PKCE is off because": provider.authorize.without_pkce_because,
        "refresh": summary.refresh,
        "rotation": summary.rotation,
        "client authentication": provider.client_authentication,
        **{name: getattr(provider, name) for name in LOCATIONS},
        "revocation": provider.revocation.style,
        "scopes": " ".join(provider.scopes),
        "needs": ", ".join(summary.needs),
    }
    yield f"{provider.label} ({provider.slug})"
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown))
    for name, value in shown.items():
        yield f"  {name.ljust(width)}  {value}"


def pasted(slug: str, provider: Provider) -> Iterator[str]:
    """Yield the lines of a settings entry to paste. Fields that may hold a secret are left out."""
    entry = _entry(slug)
    name = str(entry.get("preset", slug))
    is_preset = presets.load(name) is not None
    yield 'OAUTH_CONNECT["PROVIDERS"] = {'
    yield f"    {quoted(slug)}: {{"
    if is_preset and name != slug:
        yield f'        "preset": {quoted(name)},'
    yield f'        "client_id": {quoted(provider.client_id)},'
    if provider.client_authentication != "none":
        yield f'        "client_secret": os.environ["{_variable(slug)}_CLIENT_SECRET"],'
    if not is_preset:
        for endpoint in LOCATIONS:
            if value := getattr(provider, endpoint):
                yield f'        "{endpoint}": {quoted(value)},'
    yield f'        "scopes": [{", ".join(map(quoted, provider.scopes))}],'
    for name in variables(provider) if is_preset else ():
        yield f"        # {name} differs by connection. One value for all of them:"
        yield f'        # "variables": {{{quoted(name)}: "..."}},'
    if provider.variables and not is_preset:
        yield f'        "variables": {{{", ".join(map(_pattern, provider.variables.items()))}}},'
    yield "    },"
    yield "}"


def _pattern(variable: tuple[str, Variable]) -> str:
    name, value = variable
    default = f', "default": {quoted(value.default)}' if value.default else ""
    return f'{quoted(name)}: {{"pattern": {quoted(value.pattern)}{default}}}'


def _entry(slug: str) -> Mapping[str, Any]:
    found = conf.mapping.get("PROVIDERS", {}).get(slug)
    return found if isinstance(found, Mapping) else {}


def _variable(slug: str) -> str:
    return slug.upper().replace("-", "_")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
