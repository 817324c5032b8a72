from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from oauth2_provider.urls import base_urlpatterns, metadata_urlpatterns

from . import api, endpoints, views

# The first match is used, so the stricter endpoints come before the toolkit's.
oauth_urlpatterns = [
    path("authorize/", endpoints.AuthorizationView.as_view()),
    path("token/", endpoints.TokenView.as_view()),
    *base_urlpatterns,
    *metadata_urlpatterns,
]

urlpatterns = [
    path("", views.HomeView.as_view(), name="home"),
    path("login/", LoginView.as_view(template_name="codeyard/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("applications/", views.ApplicationsView.as_view(), name="applications"),
    path("applications/<int:pk>/remove/", views.remove_application, name="remove-application"),
    path("o/", include((oauth_urlpatterns, "oauth2_provider"))),
    # RFC 8414 section 3.1: the metadata of the issuer .../o has its path at the root, followed by /o.
    path("", include(metadata_urlpatterns)),
    path("api/user", api.user),
    path("api/repositories", api.repositories),
    path("api/repositories/<slug:name>/activity", api.repository_activity),
    path("api/activity", api.recent_activity),
    path("api/analytics", api.analytics),
    path("stats", views.stats, name="stats"),
]
