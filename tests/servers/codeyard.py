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
CLIENT_SECRET = "secret of the tests: +&%"
CALLBACK = "https://app.example/oauth/codeyard/callback/"


class Codeyard:
    def __init__(self, folder: Path, *, token_lifetime: int = 300) -> None:
        command = [sys.executable, "-m", "example_project.provider", "--port", "0"]
        command += ["--database", str(folder / "codeyard.sqlite3"), "--token-lifetime", str(token_lifetime)]
        command += ["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET, "--redirect-uri", CALLBACK]
        command += ["--urlconf", "tests.servers.codeyard_urls"]
        self._log = (folder / "codeyard.log").open("wb")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line.startswith("ready "), (folder / "codeyard.log").read_text()
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

    def grant(self, username: str = "ada", *, lifetime: int = 300) -> dict[str, Any]:
        """Return a token response for a user, as the token endpoint would have answered a code."""
        scopes = ["profile", "repositories", "activity"]
        return self._post("grant", {"username": username, "scopes": scopes, "lifetime": lifetime})

    def expire(self) -> None:
        self._post("expire")

    def revoke(self) -> None:
        """End everything that was granted, as a user can at the provider."""
        self._post("revoke")

    def reset(self) -> None:
        self._post("reset")

    @property
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.url}/stats", timeout=10).json()
        return found

    @property
    def refreshes(self) -> int:
        """How many refreshes the token endpoint was asked for, answered or refused."""
        return int(self.stats["token_requests"].get("refresh_token", 0))

    def _post(self, switch: str, data: Any = None) -> dict[str, Any]:
        response = requests.post(f"{self.url}/testing/{switch}", json=data, timeout=10)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found
