from django.urls import path

from oauth_connect import views

app_name = "oauth_connect"

urlpatterns = [
    path("", views.ConnectionsView.as_view(), name="connections"),
    path("<slug:provider>/connect/", views.ConnectView.as_view(), name="connect"),
    path("<slug:provider>/callback/", views.CallbackView.as_view(), name="callback"),
    path("<slug:provider>/callback/<slug:record>/", views.CallbackView.as_view(), name="callback"),
    path("<uuid:pk>/disconnect/", views.DisconnectView.as_view(), name="disconnect"),
]
