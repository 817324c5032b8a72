from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.DashboardView.as_view(), name="dashboard"),
    path("repositories/<slug:name>/", views.RepositoryView.as_view(), name="repository"),
    path("figures/", views.FiguresView.as_view(), name="figures"),
    path("status/", views.status, name="status"),
    path("login/", LoginView.as_view(template_name="desk/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("connections/", include("oauth_connect.urls")),
    path("admin/", admin.site.urls),
]
