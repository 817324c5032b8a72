"""The pages of each package that is installed."""

from importlib import import_module

from django.conf import settings
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("oauth/", include("oauth_connect.urls")),
    path("connected", lambda request: HttpResponse("connected")),
]
if "authlib" in settings.INSTALLED:
    authlib = import_module("benchmarks.others.authlib_views")
    urlpatterns += [
        path("authlib/", authlib.begin),
        path("authlib/callback/", authlib.callback),
        path("authlib/no-profile/", authlib.callback, {"with_profile": False}),
    ]
if "allauth" in settings.INSTALLED:
    allauth = import_module("benchmarks.others.allauth_views")
    urlpatterns += [
        path("accounts/bench/", allauth.begin, name="bench_login"),
        path("accounts/bench/callback/", allauth.callback, name="bench_callback"),
        path("accounts/", include("allauth.account.urls")),
        path("accounts/social/", include("allauth.socialaccount.urls")),
    ]
if "social_django" in settings.INSTALLED:
    urlpatterns.append(path("social/", include("social_django.urls", namespace="social")))
