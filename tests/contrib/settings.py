"""The suite's settings, for processes that know the providers of one test: the environment names them."""

import json
import os
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import OAUTH_CONNECT as COMMON

PROVIDERS_VARIABLE = "OAUTH_CONNECT_TEST_PROVIDERS"

# A request that a test holds back does not time out while it does.
OAUTH_CONNECT = {
    **COMMON,
    "HTTP_TIMEOUT": 50,
    "PROVIDERS": json.loads(os.environ.get(PROVIDERS_VARIABLE, "{}")),
}


def providers_variable(providers: dict[str, Any]) -> dict[str, str]:
    """What to put into the environment of a process that is to know these."""
    return {PROVIDERS_VARIABLE: json.dumps(providers)}
