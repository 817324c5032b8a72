"""Views of Django REST framework. The gate stands before the view, before its method, or in a function's."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.utils.decorators import method_decorator
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView

from oauth_connect.flows import session_for
from oauth_connect.models import Connection
from oauth_connect.views import connection_required


def listed(request: Any) -> Response:
    return Response(session_for(request.user, "inhouse").get("repositories").json())


class ForUsers(APIView):
    authentication_classes = [SessionAuthentication]
    permission_classes = [IsAuthenticated]


@method_decorator(connection_required("inhouse"), name="dispatch")
class Repositories(ForUsers):
    def get(self, request: Any) -> Response:
        return listed(request)


class ByHeader(BaseAuthentication):
    """A client without a session, as with tokens."""

    def authenticate(self, request: Any) -> Any:
        email = request.headers.get("X-User")
        return (get_user_model().objects.get_by_natural_key(email), None) if email else None


class RepositoriesOfMethod(ForUsers):
    authentication_classes = [SessionAuthentication, ByHeader]

    @method_decorator(connection_required("inhouse"))
    def get(self, request: Any) -> Response:
        return listed(request)


class ConnectionSerializer(ModelSerializer[Connection]):
    class Meta:
        model = Connection
        fields = "__all__"


@api_view(["GET"])
@authentication_classes([SessionAuthentication])
@permission_classes([IsAuthenticated])
@connection_required("inhouse")
def repositories(request: Any) -> Response:
    return listed(request)
