"""Codeyard, with a few switches that only tests may turn."""

from __future__ import annotations

import json

from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import AccessToken, Application, RefreshToken

from example_project.provider.counters import counters
from example_project.provider.tokens import expire_access_tokens, issue_token_pair


@csrf_exempt
def grant(request: HttpRequest) -> JsonResponse:
    wanted = json.loads(request.body)
    return JsonResponse(issue_token_pair(wanted["username"], wanted["scopes"], wanted["lifetime"]))


@csrf_exempt
def expire(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"expired": expire_access_tokens()})


@csrf_exempt
def revoke_everything(request: HttpRequest) -> JsonResponse:
    for token in RefreshToken.objects.filter(revoked__isnull=True):
        token.revoke()
    AccessToken.objects.all().delete()
    return JsonResponse({})


@csrf_exempt
def reset(request: HttpRequest) -> JsonResponse:
    counters.clear()
    return JsonResponse({})


@csrf_exempt
def change_secret(request: HttpRequest) -> JsonResponse:
    application = Application.objects.get(client_id=json.loads(request.body)["client_id"])
    application.client_secret = json.loads(request.body)["secret"]
    application.save()  # hashed there
    return JsonResponse({})


@csrf_exempt
def add_redirect_uri(request: HttpRequest) -> JsonResponse:
    application = Application.objects.get(client_id=json.loads(request.body)["client_id"])
    application.redirect_uris += f" {json.loads(request.body)['redirect_uri']}"
    application.save()
    return JsonResponse({})


urlpatterns = [
    path("testing/redirect_uri", add_redirect_uri),
    path("testing/grant", grant),
    path("testing/expire", expire),
    path("testing/revoke", revoke_everything),
    path("testing/reset", reset),
    path("testing/secret", change_secret),
    path("", include("example_project.provider.urls")),
]
