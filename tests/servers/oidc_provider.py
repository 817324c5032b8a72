"""A second authorization server, by other people in another language: ``oidc-provider``, on Node.

Its modules are installed once, by the lock file, into a cache of the user's outside of this repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).resolve().parent / "oidc"
LISTS = ("package.json", "package-lock.json")
OLDEST = 20

CLIENT_SECRET = "secret of the tests: +&%"
CALLBACK = "https://app.example/oauth/oidc/callback/"
LIFETIME = 600  # seconds

# What client authentication, grants and redirects there are, each with a client of its own.
CLIENTS: dict[str, dict[str, Any]] = {
    "web": {
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
    },
    "web-post": {
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_post",
    },
    "machine": {
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [],
        "response_types": [],
        "grant_types": ["client_credentials"],
    },
    "terminal": {
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/"],
        "grant_types": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "token_endpoint_auth_method": "none",
    },
}


@cache
def absence() -> str:
    """Say why it cannot run; empty where it can. Installs it where that has not been done."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return "Node (node and npm on the PATH)"
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        return f"Node (node is {version}, and {OLDEST} is needed)"
    try:
        modules()
    except subprocess.CalledProcessError:
        return "oidc-provider (npm ci could not install it)"
    return ""


@cache
def modules() -> Path:
    """Return the folder of the installed modules."""
    lists = [(HERE / name).read_bytes() for name in LISTS]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "oauth-connect-tests" / hashlib.sha256(b"\0".join(lists)).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _install(Path(scratch) / "modules", folder)
    return folder / "node_modules"


def _install(scratch: Path, folder: Path) -> None:
    scratch.mkdir()
    for name in LISTS:
        shutil.copy(HERE / name, scratch)
    command = [str(shutil.which("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=300)
    try:
        # Whole or not at all: runs at the same moment share it.
        scratch.rename(folder)
    except OSError:
        if not folder.exists():
            raise


class OIDCProvider:
    def __init__(self, folder: Path, *, lifetime: int = LIFETIME) -> None:
        clients = [{"client_id": name, **client} for name, client in CLIENTS.items()]
        self._log = (folder / "oidc-provider.log").open("wb")
        self._process = subprocess.Popen(
            [str(shutil.which("node")), str(HERE / "server.mjs"), str(modules())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"clients": clients, "lifetime": lifetime}).encode() + b"\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline().decode()).startswith("ready "):
            assert line, (folder / "oidc-provider.log").read_text()
        self.url = line.split()[1]

    def stop(self) -> None:
        self._process.communicate(timeout=60)
        self._log.close()

    def entry(self, client: str = "web", **overrides: Any) -> dict[str, Any]:
        """Return the settings of the provider: its issuer, and nothing that discovery can find out."""
        secret = CLIENTS[client].get("client_secret")
        return {
            "issuer": self.url,
            "client_id": client,
            **({"client_secret": secret} if secret else {}),
            "api_base_url": f"{self.url}/",
            **overrides,
        }

    def reset(self) -> None:
        requests.post(f"{self.url}/testing/reset", timeout=60).raise_for_status()

    @property
    def stats(self) -> dict[str, Any]:
        """``granted`` by grant type, ``refused`` by error, and how often each refresh token was seen."""
        found: dict[str, Any] = requests.get(f"{self.url}/testing/stats", timeout=60).json()
        return found

    @property
    def refreshes(self) -> int:
        return int(self.stats["granted"].get("refresh_token", 0))
