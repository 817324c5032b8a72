from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("oauth/", include("oauth_connect.urls")),
    path("login/", lambda request: HttpResponse("login"), name="login"),
]
