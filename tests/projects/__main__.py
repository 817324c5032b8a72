"""One project in a process of its own: ``python -W error -m tests.projects ROW FOLDER URL``.

FOLDER: for its database. URL: of the authorization server, which has the API as well.
"""

from __future__ import annotations

import sys

import django
from django.conf import settings

from tests.projects.rows import ROWS, common


def main(row: str, folder: str, url: str) -> None:
    provider = {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "userinfo_endpoint": f"{url}/userinfo",
        "api_base_url": f"{url}/api/",
        "identity": {"source": "userinfo", "id": ["id"], "label": ["login"]},
    }
    settings.configure(**{**common(folder, provider), **ROWS[row]})
    django.setup()
    from tests.projects import walk

    walk.through(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
