from django.conf.urls.i18n import i18n_patterns

from tests.projects.urls import plain

urlpatterns = i18n_patterns(*plain.urlpatterns)
