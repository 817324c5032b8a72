"""The example project's authorization server (django-oauth-toolkit), in a process of its own.

Rotation and reuse protection are on there: a refresh token that is spent twice ends the whole grant.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
CLIENT_ID = "tests"
MACHINE_ID = f"{CLIENT_ID}-reports"
CLIENT_SECRET = "secret of the tests: +&%"
CALLBACK = "https://app.example/oauth/codeyard/callback/"
LOOPBACK = "http://127.0.0.1/callback"  # with any port (RFC 8252 section 7.3)
DEVICE_CLIENT_ID = "tests-terminal"


class Codeyard:
    def __init__(self, database: Path, *, token_lifetime: int = 300) -> None:
        log = database.with_suffix(".log")
        command = [sys.executable, "-m", "example_project.provider", "--port", "0"]
        command += ["--database", str(database), "--token-lifetime", str(token_lifetime)]
        command += ["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET, "--redirect-uri", CALLBACK]
        command += ["--redirect-uri", LOOPBACK, "--device-client-id", DEVICE_CLIENT_ID]
        command += ["--device-interval", "1", "--urlconf", "tests.servers.codeyard_urls"]
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line.startswith("ready "), log.read_text()
        self.url = line.split()[1]

    def stop(self) -> None:
        self._process.communicate()
        self._log.close()

    def entry(self, **overrides: Any) -> dict[str, Any]:
        """Return the settings of the provider, as a site would write them."""
        return {
            "name": "Codeyard",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "issuer": f"{self.url}/o",
            "authorization_response_iss_parameter_supported": True,
            "authorization_endpoint": f"{self.url}/o/authorize/",
            "token_endpoint": f"{self.url}/o/token/",
            "revocation_endpoint": f"{self.url}/o/revoke_token/",
            "userinfo_endpoint": f"{self.url}/api/user",
            "api_base_url": f"{self.url}/api/",
            "scopes": ["profile", "repositories", "activity"],
            "identity": {"id": ["id"], "label": ["login"]},
            **overrides,
        }

    def machine_entry(self, **overrides: Any) -> dict[str, Any]:
        """Return the settings of the client that asks for tokens of its own."""
        return {
            "client_id": MACHINE_ID,
            "client_secret": CLIENT_SECRET,
            "token_endpoint": f"{self.url}/o/token/",
            "revocation_endpoint": f"{self.url}/o/revoke_token/",
            "api_base_url": f"{self.url}/api/",
            "scopes": ["analytics"],
            **overrides,
        }

    def device_entry(self, **overrides: Any) -> dict[str, Any]:
        """Return the settings of the public client of command-line tools, which has the device flow only."""
        endpoint = f"{self.url}/o/device-authorization/"
        of_a_terminal = {"client_id": DEVICE_CLIENT_ID, "device_authorization_endpoint": endpoint}
        entry = self.entry(**of_a_terminal, **overrides)
        del entry["client_secret"]
        return entry

    def grant(self, username: str = "ada", *, lifetime: int = 300) -> dict[str, Any]:
        """Return a token response for a user, as the token endpoint would have answered a code."""
        scopes = ["profile", "repositories", "activity"]
        return self._post("grant", {"username": username, "scopes": scopes, "lifetime": lifetime})

    def change_secret(self, client_id: str, secret: str) -> None:
        """From now on only this secret is taken."""
        self._post("secret", {"client_id": client_id, "secret": secret})

    def add_redirect_uri(self, uri: str) -> None:
        """Register one more redirect URI, of a site that listens on a free port."""
        self._post("redirect_uri", {"client_id": CLIENT_ID, "redirect_uri": uri})

    def expire(self) -> None:
        self._post("expire")

    def revoke(self) -> None:
        """End everything that was granted, as a user can at the provider."""
        self._post("revoke")

    def reset(self) -> None:
        self._post("reset")

    @property
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.url}/stats", timeout=60).json()
        return found

    @property
    def refreshes(self) -> int:
        """How many refreshes the token endpoint was asked for, answered or refused."""
        return int(self.stats["token_requests"].get("refresh_token", 0))

    @property
    def machine_requests(self) -> int:
        """How many tokens of its own a client has asked for, answered or refused."""
        return int(self.stats["token_requests"].get("client_credentials", 0))

    def _post(self, switch: str, data: Any = None) -> dict[str, Any]:
        response = requests.post(f"{self.url}/testing/{switch}", json=data, timeout=60)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found
