"""The console of the fake provider: what it has granted, and buttons that break it."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from oauth_connect.testing.server import pages
from oauth_connect.testing.server.grants import Grant
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response, page, redirect
from oauth_connect.testing.server.state import State


def show(state: State, request: ReceivedRequest) -> Response:
    """Show the grants that have not ended."""
    grants = [
        pages.Row(
            number=grant.number,
            account=grant.account.name,
            client_id=grant.client_id,
            scopes=grant.scopes,
            seconds=state.grants.seconds_left(grant),
        )
        for grant in state.grants.living
    ]
    return page(pages.console(state.label, state.url, grants, state.form_token, is_down=state.is_down))


def act(state: State, request: ReceivedRequest) -> Response:
    """Do what a button says, and show the console again."""
    form = request.form
    if not compare_digest(form.get("form_token", "").encode(), state.form_token.encode()):
        return page(pages.message(state.label, "This form is too old. Open the console again."), 403)
    action = form.get("action", "")
    if action in ("down", "up"):
        state.is_down = action == "down"
    elif action in _ACTIONS:
        number = form.get("grant", "")
        grant = state.grants.numbered(int(number)) if number.isascii() and number.isdigit() else None
        if grant is not None:
            _ACTIONS[action](state, grant)
    return redirect(f"{state.url}/")


_ACTIONS: dict[str, Callable[[State, Grant], None]] = {
    "expire": lambda state, grant: state.grants.expire_all(grant),
    "end": lambda state, grant: state.grants.end_all(grant),
}
