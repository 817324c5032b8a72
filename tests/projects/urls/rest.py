from django.urls import path

from tests.projects import rest_views
from tests.projects.urls import plain

urlpatterns = [
    *plain.urlpatterns,
    path("rest/class/", rest_views.Repositories.as_view()),
    path("rest/method/", rest_views.RepositoriesOfMethod.as_view()),
    path("rest/function/", rest_views.repositories),
]
