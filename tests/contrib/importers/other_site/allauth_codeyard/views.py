from __future__ import annotations

from typing import Any

import requests
from allauth.socialaccount.providers.oauth2.views import OAuth2Adapter, OAuth2CallbackView, OAuth2LoginView
from django.conf import settings


class CodeyardAdapter(OAuth2Adapter):
    provider_id = "codeyard"
    redirect_uri_protocol = "https"

    @property
    def access_token_url(self) -> str:
        return settings.CODEYARD["token_endpoint"]

    @property
    def authorize_url(self) -> str:
        return settings.CODEYARD["authorization_endpoint"]

    def complete_login(self, request: Any, app: Any, token: Any, **kwargs: Any) -> Any:
        bearer = {"Authorization": f"Bearer {token.token}"}
        answer = requests.get(settings.CODEYARD["userinfo_endpoint"], headers=bearer, timeout=10)
        return self.get_provider().sociallogin_from_response(request, answer.json())


login = OAuth2LoginView.adapter_view(CodeyardAdapter)
callback = OAuth2CallbackView.adapter_view(CodeyardAdapter)
