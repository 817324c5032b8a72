"""The two views of a django-allauth provider."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.oauth2.views import OAuth2Adapter, OAuth2CallbackView, OAuth2LoginView
from django.conf import settings


class BenchAdapter(OAuth2Adapter):
    provider_id = "bench"
    access_token_url = f"{settings.AUTHORITY}/token"
    authorize_url = f"{settings.AUTHORITY}/authorize"

    def complete_login(self, request: Any, app: Any, token: Any, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {token.token}"}
        with get_adapter().get_requests_session() as http:
            profile = http.get(f"{settings.AUTHORITY}/user", headers=headers).json()
        return self.get_provider().sociallogin_from_response(request, profile)


begin = OAuth2LoginView.adapter_view(BenchAdapter)
callback = OAuth2CallbackView.adapter_view(BenchAdapter)
