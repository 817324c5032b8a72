"""The two views of Authlib's documentation for Django, which store the token as its users do."""

from __future__ import annotations

import time

from authlib.integrations.django_client import OAuth
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from benchmarks.others.models import DocumentedToken

oauth = OAuth()
oauth.register("bench")


def begin(request: HttpRequest) -> HttpResponse:
    return oauth.bench.authorize_redirect(request, "http://testserver/authlib/callback/")


def callback(request: HttpRequest, with_profile: bool = True) -> HttpResponse:
    token = oauth.bench.authorize_access_token(request)
    if with_profile:
        profile = oauth.bench.get("user", token=token)
        profile.raise_for_status()
    DocumentedToken.objects.update_or_create(
        user_id=request.user.pk,
        name="bench",
        defaults={
            "token_type": token["token_type"],
            "access_token": token["access_token"],
            "refresh_token": token["refresh_token"],
            "expires_at": token.get("expires_at", int(time.time())),
        },
    )
    return redirect("/connected")
