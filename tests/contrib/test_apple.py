"""Sign in with Apple: the client secret is a statement that this site signs."""

from __future__ import annotations

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.contrib.apple import AUDIENCE, ClientSecret
from oauth_connect.models import Connection
from tests.support.visitor import Visitor, state_of

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def secret() -> ClientSecret:
    return ClientSecret(client_id="com.example.site", team_id="TEAM", key_id="KEY", private_key=pem(KEY))


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(statement: str) -> dict[str, object]:
    """Return the claims of a statement that the key has signed (RFC 7515, RFC 7518 section 3.4)."""
    head, body, signature = statement.split(".")
    raw = part(signature)
    assert len(raw) == 64
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    signed = f"{head}.{body}".encode()
    KEY.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    assert json.loads(part(head)) == {"alg": "ES256", "kid": "KEY", "typ": "JWT"}
    claims: dict[str, object] = json.loads(part(body))
    return claims


@pytest.mark.once
def test_the_secret_is_signed_and_says_for_whom(secret) -> None:
    before = int(time.time())
    claims = claims_of(secret())
    assert {name: claims[name] for name in ("iss", "sub", "aud")} == {
        "iss": "TEAM",
        "sub": "com.example.site",
        "aud": AUDIENCE,
    }
    assert before <= claims["iat"] < claims["exp"] <= claims["iat"] + 3600


@pytest.mark.once
@pytest.mark.parametrize(
    "key", ["", "no key", pem(rsa.generate_private_key(65537, 2048))], ids=["empty", "text", "rsa"]
)
def test_a_key_that_cannot_sign_is_reported_without_the_key(key: str) -> None:
    secret = ClientSecret(client_id="c", team_id="t", key_id="k", private_key=key)
    with pytest.raises(ImproperlyConfigured, match=r"the key cannot sign") as raised:
        secret()
    assert not key or key not in str(raised.value)
    assert "TEAM" not in repr(secret)


@pytest.mark.django_db(transaction=True)
def test_each_token_request_has_a_secret_that_is_valid(
    secret, user, scripted, scripted_entry, configure, issues
) -> None:
    entry = {
        **scripted_entry,
        "client_secret": secret,
        "token_endpoint_auth_method": "client_secret_post",
        "authorize": {"response_mode": "form_post"},
    }
    configure(PROVIDERS={"scripted": entry})
    visitor = Visitor(user)
    state = state_of(visitor.start())
    posted = visitor.post("/oauth/scripted/callback/", {"state": state, "code": "code", "user": "{}"})
    assert posted.status_code == 303
    visitor.get(posted["Location"])

    connection = Connection.objects.get()
    connection.refresh()
    requests = scripted.asked("/token")
    assert len(requests) == 2
    assert all(claims_of(one.form["client_secret"])["sub"] == "com.example.site" for one in requests)
