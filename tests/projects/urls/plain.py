from django.contrib import admin
from django.urls import include, path

from tests.projects import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("connections/", include("oauth_connect.urls")),
    path("page/", views.page),
    path("async-page/", views.async_page),
]
