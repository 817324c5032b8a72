"""A provider of django-allauth for the benchmark's server. Allauth finds it by the name of this module."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.providers.base import ProviderAccount
from allauth.socialaccount.providers.oauth2.provider import OAuth2Provider

from benchmarks.others.allauth_views import BenchAdapter


class BenchProvider(OAuth2Provider):
    id = "bench"
    name = "Bench"
    account_class = ProviderAccount
    oauth2_adapter_class = BenchAdapter

    def extract_uid(self, data: dict[str, Any]) -> str:
        return str(data["id"])

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"username": data["login"], "email": data["email"], "name": data["name"]}


provider_classes = [BenchProvider]
