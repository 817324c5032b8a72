"""Issues, expires, revokes and looks up tokens of Codeyard with the toolkit's models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, User
from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.tokens import BearerToken


def issue_token_pair(
    username: str,
    scopes: Iterable[str],
    lifetime_seconds: int,
    client_id: str | None = None,
) -> dict[str, Any]:
    """Return and store a token response, as the token endpoint does for a code.

    Without `client_id`, it is issued to the application that was registered first.
    """
    applications = Application.objects.order_by("pk")
    if client_id is not None:
        applications = applications.filter(client_id=client_id)
    request = Request("/o/token/", http_method="POST")
    request.grant_type = "authorization_code"
    request.client = applications[0]
    request.user = User.objects.get(username=username)
    request.scopes = list(scopes)
    validator = OAuth2Validator()
    token = BearerToken(validator, expires_in=lifetime_seconds).create_token(request, refresh_token=True)
    validator.save_bearer_token(token, request)
    return dict(token)


def expire_access_tokens(username: str | None = None) -> int:
    """Let the access tokens of one user, or of all, expire. Return their number."""
    tokens = AccessToken.objects.all()
    if username is not None:
        tokens = tokens.filter(user__username=username)
    return tokens.update(expires=timezone.now() - timedelta(seconds=1))


@transaction.atomic
def remove_access(user: AbstractBaseUser, application: Application) -> None:
    """End every code and token that the application holds for this user."""
    granted = {"user": user, "application": application}
    Grant.objects.filter(**granted).delete()
    for refresh_token in RefreshToken.objects.filter(revoked__isnull=True, **granted):
        refresh_token.revoke()
    AccessToken.objects.filter(**granted).delete()


def applications_with_access(user: AbstractBaseUser) -> Iterable[Application]:
    """Return the applications that hold a valid refresh token of this user."""
    live = RefreshToken.objects.filter(user=user, revoked__isnull=True, access_token__isnull=False)
    return Application.objects.filter(pk__in=live.values("application_id")).order_by("name")


def is_spent(refresh_token: str) -> bool:
    """Return whether a refresh token was rotated. One that was only revoked has no successor."""
    checksum = hashlib.sha256(refresh_token.encode()).hexdigest()
    return any(
        RefreshToken.objects.filter(token_family=used.token_family, pk__gt=used.pk).exists()
        for used in RefreshToken.objects.filter(token_checksum=checksum)
    )
