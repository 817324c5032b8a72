"""The steps of the demo. STEPS has them in order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from example_project.logins import CODEYARD, DESK

from .browser import Browser, Page
from .services import TOKEN_LIFETIME
from .walk import Step, StepError, Walk, expect

CALLERS = 10
REPOSITORY = "analytical-engine"


def sign_in(walk: Walk) -> str:
    page = walk.dashboard()
    expect("/login/" in page.url, "Desk to ask for a sign-in", page)
    page = walk.press(page, "Sign in", username=DESK.usernames[0], password=DESK.password)
    expect("Connect your Codeyard account" in page, "a dashboard without a connection", page)
    return f"{DESK.usernames[0]} is signed in; Desk offers to connect Codeyard"


def ask_to_connect(walk: Walk) -> str:
    confirmation = walk.follow(walk.dashboard(), "Connect Codeyard")
    expect(not walk.connections(), "no connection before the form is sent", walk.connections())
    page = _submit_to(walk, confirmation, "/connect/")
    query = _query_of(page, f"{walk.codeyard}/o/authorize/")
    expect(query.get("code_challenge_method") == "S256", "PKCE with S256", sorted(query))
    expect(len(query.get("state", "")) >= 22, "a long random state", sorted(query))
    expect(f"{walk.codeyard}/login/" in page.url, "Codeyard's own sign-in page", page)
    walk.left_at = page
    return "Desk asked first, then sent the browser to Codeyard with state and PKCE"


def consent(walk: Walk) -> str:
    page = walk.resume()
    page = walk.press(page, "Sign in", username=CODEYARD.usernames[0], password=CODEYARD.password)
    expect("Allow Desk?" in page, "Codeyard to ask for consent", page)
    before = walk.stats()
    page = walk.press(page, "Allow")
    query = _query_of(page, f"{walk.site}/connections/codeyard/callback/")
    expect({"code", "state", "iss"} <= query.keys(), "code, state and iss", sorted(query))
    codes = walk.stats().since(before)("authorization_code")
    expect(codes == 1, "one code exchanged", codes)
    connection = walk.connection()
    expect(connection["status"] == "active", "an active connection", connection)
    expect(connection["account"] == "ada", "the account's name from userinfo", connection)
    walk.connection_id = connection["id"]
    return f"allowed by ada; the callback brought code, state and iss={query['iss']}; connected"


def call_the_api(walk: Walk) -> str:
    before = walk.stats()
    _expect_repositories(walk.dashboard())
    since = walk.stats().since(before)
    expect(since("api_calls") > 0, "calls counted by Codeyard", since("api_calls"))
    expect(since("refresh_token") == 0, "no refresh of a valid token", since("refresh_token"))
    return f"the dashboard shows {REPOSITORY} and more; {since('api_calls')} API calls, no refresh"


def live_through_an_expiry(walk: Walk) -> str:
    before, old = walk.stats(), walk.connection()
    waited = walk.wait_for_expiry()
    _expect_repositories(walk.dashboard())
    since, new = walk.stats().since(before), walk.connection()
    expect(since("refresh_token") == 1, "one refresh", since("refresh_token"))
    expect(since("rotations") == 1, "a new refresh token issued", since("rotations"))
    expect(new["version"] > old["version"], f"a version after {old['version']}", new)
    return (
        f"the token expired after {waited:.1f} s; the next call refreshed it once and it was rotated "
        f"(version {old['version']} -> {new['version']})"
    )


def many_callers(walk: Walk) -> str:
    before = walk.stats()
    walk.wait_for_expiry()
    for page in _in_parallel(walk, CALLERS):
        _expect_repositories(page)
    since = walk.stats().since(before)
    expect(since("refresh_token") == 1, "exactly one refresh", since("refresh_token"))
    expect(since("reuse_seen") == 0, "no spent token presented", since("reuse_seen"))
    return (
        f"{CALLERS} callers in parallel, all served; Codeyard counted {since('refresh_token')} refresh "
        f"and {since('reuse_seen')} reuses of a spent token"
    )


def rotate_the_key(walk: Walk) -> str:
    """Deploy a new key last in the ring, then first. Then re-encrypt all tokens while callers refresh."""
    ring = Path(walk.desk.settings["OAUTH_CONNECT_KEY_FILE"])
    old = ring.read_text("utf-8").strip()
    new = json.loads(_manage(walk, "oauth_rotate_keys", "--generate", "--json"))["key"]
    _replace(ring, old, new)
    before = walk.stats()
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(_live_through_expiries, walk, 2)
        _replace(ring, new, old)
        while not refreshing.done():
            _reseal(walk)
        refreshing.result()
    # No caller refreshes now, so only the command re-encrypts the connection.
    for keys in ((old, new), (new, old)):
        _replace(ring, *keys)
        document = _reseal(walk)
        resealed = document["resealed"]["connections"]
        expect(resealed == 1, "the command to re-encrypt the connection", document)
    _replace(ring, new)
    document = json.loads(_manage(walk, "oauth_rotate_keys", "--dry-run", "--json"))
    opened = document["opened_by_key"]["connections"]
    expect(opened == [1], "the connection to open with the new key alone", document)
    walk.wait_for_expiry()
    _expect_repositories(walk.dashboard())
    since = walk.stats().since(before)
    expect(since("reuse_seen") == 0, "no spent token presented", since("reuse_seen"))
    counted = f"{since('refresh_token')} refreshes, {since('reuse_seen')} reuses"
    return f"re-encrypted while callers refreshed ({counted}); the old key is removed"


def removed_at_the_provider(walk: Walk) -> str:
    page = walk.press(walk.browser.get(f"{walk.codeyard}/applications/"), "Remove access")
    expect("No application has access" in page, "Desk to be removed at Codeyard", page)
    before = walk.stats()
    walk.wait_for_expiry()
    for _ in range(2):
        page = walk.dashboard()
        expect("Connect Codeyard again" in page, "Desk to ask for a reconnect", page)
    refused = walk.stats().since(before)("refreshes_refused")
    expect(refused == 1, "one refused refresh, and no second attempt", refused)
    connection = walk.connection()
    expect(
        connection["status"] == "reauthorization_required", "the status reauthorization_required", connection
    )
    return "ada removed Desk at Codeyard; one refresh was refused, and Desk asks to reconnect"


def reconnect(walk: Walk) -> str:
    page = _submit_to(walk, walk.follow(walk.dashboard(), "Reconnect Codeyard"), "/connect/")
    page = walk.press(page, "Allow")
    connection = walk.connection()
    expect(connection["status"] == "active", "an active connection", connection)
    expect(connection["id"] == walk.connection_id, "the same connection as before", connection)
    _expect_repositories(walk.dashboard())
    return "allowed once more; the same connection is active and the dashboard is back"


def disconnect(walk: Walk) -> str:
    before = walk.stats()
    page = walk.browser.get(f"{walk.site}/connections/")
    link = next(page.links_to("/disconnect/"), None)
    if link is None:
        raise StepError("a link to disconnect", page)
    _submit_to(walk, walk.browser.follow(page, link), "/disconnect/")
    revocations = walk.stats().since(before)("revocations")
    expect(revocations >= 1, "a revocation counted by Codeyard", revocations)
    page = walk.browser.get(f"{walk.codeyard}/applications/")
    expect("No application has access" in page, "no access left at Codeyard", page)
    before = walk.stats()
    page = walk.dashboard()
    expect("Connect your Codeyard account" in page, "Desk to offer to connect", page)
    calls = walk.stats().since(before)("api_calls")
    expect(calls == 0, "no call without a connection", calls)
    return "revoked at Codeyard, where no access is left; Desk offers to connect"


def machine_token(walk: Walk) -> str:
    before = walk.stats()
    for expected in (1, 2):
        for page in _in_parallel(walk, CALLERS, "/figures/"):
            expect(page.status == 200 and "repositories" in page, "Codeyard in figures", page)
        since = walk.stats().since(before)
        asked = since("client_credentials")
        expect(asked == expected, f"{expected} requests for a token of Desk's own", asked)
        if expected == 1:
            time.sleep(TOKEN_LIFETIME)
    expect(since("api_401s") == 0, "no call with an expired token", since("api_401s"))
    return (
        f"{CALLERS} windows in parallel, twice, the second time after the token had expired; Desk "
        "requested one token of its own each time, and no account is connected"
    )


def log_in_at_a_terminal(walk: Walk) -> str:
    command = walk.desk.begin("oauth_login", "codeyard-terminal", "--user", DESK.usernames[0])
    with command:
        try:
            address, code = _address_and_code(command.stdout or ())
            page = walk.press(walk.browser.get(address), "Continue", user_code=code)
            expect(code in page.text, "Codeyard to show the same code", page)
            walk.press(page, "Allow")
            output = command.communicate(timeout=60)[0]
        except BaseException:
            command.kill()
            raise
    expect(command.returncode == 0, "oauth_login to succeed", output)
    accounts = [each["account"] for each in _active(walk)]
    expect(accounts == ["ada"], "a connection of the account that allowed it", accounts)
    _manage(walk, "oauth_logout", "codeyard-terminal", "--user", DESK.usernames[0])
    expect(not _active(walk), "no connection left after oauth_logout", _active(walk))
    return f"the code {code}, entered and allowed by ada, became a connection; oauth_logout ended it"


def _active(walk: Walk) -> list[dict[str, Any]]:
    return [each for each in walk.connections() if each["status"] == "active"]


def _address_and_code(lines: Iterable[str]) -> tuple[str, str]:
    """Return the address and the code that oauth_login prints."""
    address = ""
    seen = []
    for line in lines:
        seen.append(line)
        if line.startswith("Open "):
            address = line.split()[-1]
        elif line.startswith("and enter the code "):
            return address, line.split()[-1]
    raise StepError("an address and a code", " ".join(seen))


def _manage(walk: Walk, *arguments: str) -> str:
    result = walk.desk.manage(*arguments)
    expect(result.returncode == 0, f"{arguments[0]} to succeed", result.stdout + result.stderr)
    return result.stdout


def _reseal(walk: Walk) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_manage(walk, "oauth_rotate_keys", "--json"))
    expect(not document["unopened"], "every row to open", document)
    return document


def _replace(ring: Path, *keys: str) -> None:
    """Replace the file atomically, because Desk reads it whenever it seals or opens."""
    fresh = ring.with_suffix(".new")
    fresh.write_text("\n".join(keys), "utf-8")
    fresh.replace(ring)


def _live_through_expiries(walk: Walk, times: int) -> None:
    for _ in range(times):
        walk.wait_for_expiry()
        for page in _in_parallel(walk, CALLERS):
            _expect_repositories(page)


def _submit_to(walk: Walk, page: Page, ending: str) -> Page:
    """Submit the form that posts to an address with this ending."""
    for form in page.forms:
        target = form.action or page.url
        if form.method == "post" and target.partition("?")[0].endswith(ending):
            return walk.browser.submit(page, form)
    raise StepError(f"a form to {ending}", page)


def _query_of(page: Page, address: str) -> dict[str, str]:
    """Return the query with which the browser visited this address."""
    for url in page.visited:
        if url.startswith(address):
            return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    raise StepError(f"the browser to be sent to {address}", page)


def _expect_repositories(page: Page) -> None:
    expect(page.status == 200 and REPOSITORY in page, f"a dashboard with {REPOSITORY}", page)


def _in_parallel(walk: Walk, callers: int, path: str = "/") -> list[Page]:
    """Get the dashboard, or another page, in several windows of the visitor in parallel."""
    start = threading.Barrier(callers, timeout=30)

    def get(browser: Browser) -> Page:
        start.wait()
        return browser.get(f"{walk.site}{path}")

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(get, [walk.browser.copy() for _ in range(callers)]))


STEPS = (
    Step("Sign in at Desk", sign_in),
    Step("Connect", ask_to_connect),
    Step("Consent at Codeyard", consent),
    Step("Call the API", call_the_api),
    Step("Expiry", live_through_an_expiry),
    Step("Expiry under load", many_callers),
    Step("A new key under load", rotate_the_key),
    Step("Removed by the user at Codeyard", removed_at_the_provider),
    Step("Reconnect", reconnect),
    Step("Disconnect", disconnect),
    Step("A token of the site's own", machine_token),
    Step("Log in at a terminal", log_in_at_a_terminal),
)
