"""Values of a provider that is configured by its issuer alone."""

from __future__ import annotations

from django.urls import reverse

CLIENT = {"client_id": "client", "client_secret": "secret"}
CONNECT = reverse("oauth_connect:connect", kwargs={"provider": "acme"})
ISS = "authorization_response_iss_parameter_supported"
