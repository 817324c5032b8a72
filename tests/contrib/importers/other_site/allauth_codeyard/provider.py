from __future__ import annotations

from typing import Any

from allauth.socialaccount.providers.base import ProviderAccount
from allauth.socialaccount.providers.oauth2.provider import OAuth2Provider

from .views import CodeyardAdapter


class CodeyardProvider(OAuth2Provider):
    id = "codeyard"
    name = "Codeyard"
    account_class = ProviderAccount
    oauth2_adapter_class = CodeyardAdapter

    def extract_uid(self, data: dict[str, Any]) -> str:
        return str(data["id"])

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"username": data["login"]}


provider_classes = [CodeyardProvider]
