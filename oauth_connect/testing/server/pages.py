"""The pages of the fake provider: HTML and CSS, without JavaScript and without resources of other hosts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from oauth_connect.testing.server.messages import Account

STYLE = files(__package__).joinpath("pages.css").read_text("utf-8")
NOTICE = "This is a fake provider for tests. It has no real accounts, and it runs on this machine only."


@dataclass(frozen=True, kw_only=True)
class Row:
    """A grant on the console. ``seconds``: until the access token expires, 0 if it has, or infinite."""

    number: int
    account: str
    client_id: str
    scopes: Sequence[str]
    seconds: float


def message(label: str, text: str) -> str:
    """Return a page that only says something."""
    return _page(label, f"<h1>{escape(label)}</h1>\n<p>{escape(text)}</p>")


def consent(
    label: str,
    client_id: str,
    target: str,
    scopes: Sequence[str],
    accounts: Sequence[Account],
    number: str,
) -> str:
    """Return the page on which a person chooses an account, or denies.

    ``target``: the host to which the browser returns, "" for a device. ``number``: the request's id.
    """
    back = f" You then return to <code>{escape(target)}</code>." if target else ""
    names = [escape(account.name) for account in accounts]
    buttons = "\n".join(
        f'<button class="main" name="account" value="{name}">Continue as {name}</button>' for name in names
    )
    return _page(
        label,
        f"""<h1>Connect your account at {escape(label)}?</h1>
<p><code>{escape(client_id)}</code> asks for access to your account.{back}</p>
<form method="post">
<input type="hidden" name="request" value="{escape(number)}">
{_scopes(scopes)}
{buttons}
<button class="other" name="deny" value="1">Deny</button>
</form>""",
    )


def _scopes(scopes: Sequence[str]) -> str:
    if not scopes:
        return "<p>It asks for no scopes.</p>"
    boxes = "\n".join(
        f'<label><input type="checkbox" name="scope_{index}" value="{escape(scope)}" checked> '
        f"<code>{escape(scope)}</code></label>"
        for index, scope in enumerate(scopes)
    )
    return f"<fieldset><legend>Scopes to grant</legend>\n{boxes}\n</fieldset>"


def enter_code(label: str, problem: str) -> str:
    """Return the page on which a person enters the code that a device shows."""
    shown = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return _page(
        label,
        f"""<h1>Connect a device to {escape(label)}</h1>
{shown}
<form method="get">
<label for="user_code">The code that the device shows</label>
<input type="text" id="user_code" name="user_code" autocomplete="off" required autofocus>
<button class="main">Continue</button>
</form>""",
    )


def form_post(label: str, target: str, parameters: Mapping[str, str]) -> str:
    """Return the page that posts the authorization response (OAuth 2.0 Form Post Response Mode)."""
    fields = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in parameters.items()
    )
    return _page(
        label,
        f"""<h1>Return to the site</h1>
<p>{escape(label)} answers with a form. Send it to return.</p>
<form method="post" action="{escape(target)}">
{fields}
<button class="main" autofocus>Continue</button>
</form>""",
    )


def console(label: str, url: str, rows: Sequence[Row], form_token: str, *, is_down: bool) -> str:
    """Return the console: the grants, and whether the provider answers."""
    hidden = f'<input type="hidden" name="form_token" value="{escape(form_token)}">'
    state = "It is down: it answers every request with HTTP 503." if is_down else "It is up."
    action, button = ("up", "Come back") if is_down else ("down", "Go down")
    return _page(
        label,
        f"""<h1>{escape(label)}</h1>
<p>A fake provider at <code>{escape(url)}</code>. {state}</p>
<form method="post" action="/console"><p>{hidden}
<button name="action" value="{action}">{button}</button></p></form>
<h2>Grants</h2>
{_table(rows, hidden)}
<p><a href="/">Reload</a> · <a href="/device">Enter the code of a device</a></p>""",
        wide=True,
    )


def _table(rows: Sequence[Row], hidden: str) -> str:
    if not rows:
        return "<p>No account is connected yet. Start at your site.</p>"
    lines = "\n".join(_row(row, hidden) for row in rows)
    return f"""<div class="scroll"><table>
<thead><tr><th>Account</th><th>Client</th><th>Scopes</th><th>Access token</th><th>Actions</th></tr></thead>
<tbody>
{lines}
</tbody></table></div>"""


def _row(row: Row, hidden: str) -> str:
    scopes = " ".join(f"<code>{escape(scope)}</code>" for scope in row.scopes) or "none"
    name = escape(f"{row.account} at {row.client_id}")
    return f"""<tr><td>{escape(row.account)}</td><td>{escape(row.client_id)}</td><td>{scopes}</td>
<td>{_expiry(row.seconds)}</td><td class="actions"><form class="line" method="post" action="/console">{hidden}
<input type="hidden" name="grant" value="{row.number}">
<button name="action" value="expire" aria-label="Expire the access token of {name}">Expire</button>
<button class="danger" name="action" value="end" aria-label="End the grant of {name}">End grant</button>
</form></td></tr>"""


def _expiry(seconds: float) -> str:
    if seconds == math.inf:
        return "does not expire"
    return f"expires in {math.ceil(seconds)} s" if seconds else "expired"


def _page(label: str, content: str, *, wide: bool = False) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(label)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body{' class="wide"' if wide else ""}>
<main>
{content}
</main>
<p class="notice">{NOTICE}</p>
</body>
</html>
"""
