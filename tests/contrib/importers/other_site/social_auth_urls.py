from django.http import HttpResponse
from django.urls import include, path
from social_django import views

social = [
    path("begin/", views.auth, {"backend": "codeyard"}, name="begin"),
    path("oauth/<str:backend>/callback/", views.complete, name="complete"),
]
urlpatterns = [path("", lambda request: HttpResponse()), path("", include((social, "social")))]
