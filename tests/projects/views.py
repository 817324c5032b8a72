"""The pages of a project that call the API for their user."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from oauth_connect.contrib.httpx import aclient_for
from oauth_connect.flows import session_for
from oauth_connect.views import connection_required


@connection_required("inhouse")
def page(request: HttpRequest) -> JsonResponse:
    return JsonResponse(session_for(request.user, "inhouse").get("repositories").json())


@connection_required("inhouse")
async def async_page(request: HttpRequest) -> JsonResponse:
    async with await aclient_for(await request.auser(), "inhouse") as http:
        return JsonResponse((await http.get("repositories")).json())
