from django.http import HttpResponse
from django.urls import include, path

from .allauth_codeyard import views

urlpatterns = [
    path("", lambda request: HttpResponse()),
    path("begin/", views.login, name="codeyard_login"),
    path("oauth/codeyard/callback/", views.callback, name="codeyard_callback"),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/social/", include("allauth.socialaccount.urls")),
]
