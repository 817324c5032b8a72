"""The views of the site in ``asgi``: each calls an API as a site's own async code would."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import httpx2
from django.http import HttpRequest, JsonResponse
from django.urls import path

from oauth_connect.contrib.httpx import ConnectionAuth, aclient, aclient_for
from oauth_connect.flows import amachine_access_token, amachine_connection
from oauth_connect.models import Connection

# By path: the requests whose visitor went away before the answer came.
LEFT: Counter[str] = Counter()


async def me(request: HttpRequest, provider: str, owner: str) -> JsonResponse:
    """With a client that is made for the owner."""
    async with await aclient_for(owner, provider) as http:
        return answered(await http.get("user"))


async def me_by_id(request: HttpRequest, pk: Any) -> JsonResponse:
    """With a client of the site's own, of the other library."""
    connection = await Connection.objects.aget(pk=pk)
    base = connection.get_provider().api_base_url
    async with httpx2.AsyncClient(auth=ConnectionAuth(connection), base_url=base, timeout=60) as http:
        try:
            return answered(await http.get("user"))
        except asyncio.CancelledError:
            LEFT[request.path] += 1
            raise


async def tokens(request: HttpRequest, pk: Any) -> JsonResponse:
    """For an SDK that wants the token itself: one that is fresh, then another one."""
    connection = await Connection.objects.aget(pk=pk)
    before = await connection.aaccess_token()
    await connection.arefresh()
    return JsonResponse({"differ": before != await connection.aaccess_token()})


async def figures(request: HttpRequest) -> JsonResponse:
    """In the site's own name: the token itself, and a client that has it."""
    token = await amachine_access_token("reports")
    connection = await amachine_connection("reports")
    async with await aclient(connection) as http:
        response = await http.get("analytics")
    return JsonResponse({"status": response.status_code, "same": token == await connection.aaccess_token()})


def answered(response: Any) -> JsonResponse:
    return JsonResponse({"status": response.status_code, "body": response.json()})


async def ping(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


async def left(request: HttpRequest) -> JsonResponse:
    return JsonResponse(LEFT)


async def threads(request: HttpRequest) -> JsonResponse:
    """The threads in which this process has refreshed: they stay, waiting for more."""
    names = [thread.name for thread in threading.enumerate()]
    return JsonResponse({"refreshing": sum(name.startswith("oauth_connect-async") for name in names)})


urlpatterns = [
    path("ping/", ping),
    path("left/", left),
    path("threads/", threads),
    path("figures/", figures),
    path("<uuid:pk>/tokens/", tokens),
    path("<uuid:pk>/", me_by_id),
    path("<slug:provider>/<str:owner>/", me),
]
