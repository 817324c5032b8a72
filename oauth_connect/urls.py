from django.urls import path, re_path

from oauth_connect import views
from oauth_connect.views import api

app_name = "oauth_connect"

urlpatterns = [
    path("", views.ConnectionsView.as_view(), name="connections"),
    path("api/", api.ConnectionsApi.as_view(), name="api"),
    path("api/<slug:provider>/connect/", api.ConnectApi.as_view(), name="api_connect"),
    path("api/<uuid:pk>/", api.ConnectionApi.as_view(), name="api_connection"),
    # Before the others: below api/ each answer is JSON. So no provider can have this name (conf.RESERVED).
    re_path("^api/", api.UnknownApi.as_view(), name="api_unknown"),
    path("<slug:provider>/connect/", views.ConnectView.as_view(), name="connect"),
    path("<slug:provider>/accounts/", views.ChooseView.as_view(), name="choose"),
    path("<slug:provider>/callback/", views.CallbackView.as_view(), name="callback"),
    path("<slug:provider>/callback/<slug:record>/", views.CallbackView.as_view(), name="callback"),
    path("<uuid:pk>/site/", views.SiteView.as_view(), name="site"),
    path("<uuid:pk>/disconnect/", views.DisconnectView.as_view(), name="disconnect"),
]
