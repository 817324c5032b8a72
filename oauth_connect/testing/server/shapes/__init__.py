"""How the provider writes and reads its messages: the inverse of the quirks of ``Provider``. No I/O.

Each function takes a provider whose variables are not filled in, or None for the RFCs' own format.
"""

from oauth_connect.testing.server.shapes.accounts import account_of, value_for, variables_of
from oauth_connect.testing.server.shapes.answers import (
    accounts_answer,
    device_answer,
    introspection_answer,
    refusal,
    registration_answer,
    revocation_answer,
    userinfo_answer,
)
from oauth_connect.testing.server.shapes.authorization import (
    authorization_query,
    callback_parameters,
    read_authorization_request,
    requested_scopes,
)
from oauth_connect.testing.server.shapes.requests import (
    AUTHENTICATION,
    EXCHANGE,
    SEVERAL,
    bearer_of,
    is_client,
    read_revocation_request,
    read_token_request,
    revoked_account,
)
from oauth_connect.testing.server.shapes.tokens import (
    issues_refresh_tokens,
    new_access_token,
    rotates_refresh_tokens,
    token_answer,
    tokens_expire,
)
from oauth_connect.testing.server.shapes.written import Written

__all__ = [
    "AUTHENTICATION",
    "EXCHANGE",
    "SEVERAL",
    "Written",
    "account_of",
    "accounts_answer",
    "authorization_query",
    "bearer_of",
    "callback_parameters",
    "device_answer",
    "introspection_answer",
    "is_client",
    "issues_refresh_tokens",
    "new_access_token",
    "read_authorization_request",
    "read_revocation_request",
    "read_token_request",
    "refusal",
    "registration_answer",
    "requested_scopes",
    "revocation_answer",
    "revoked_account",
    "rotates_refresh_tokens",
    "token_answer",
    "tokens_expire",
    "userinfo_answer",
    "value_for",
    "variables_of",
]
