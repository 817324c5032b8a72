"""Codeyard's pages, and the counters."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import TemplateView
from oauth2_provider.models import Application

from .counters import counters
from .models import Repository
from .tokens import applications_with_access, remove_access


class HomeView(TemplateView):
    template_name = "codeyard/home.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        if self.request.user.is_authenticated:
            kwargs["repositories"] = Repository.objects.filter(owner=self.request.user)
        return super().get_context_data(**kwargs)


class ApplicationsView(LoginRequiredMixin, TemplateView):
    """Shows the applications that may use the visitor's account, each with a button to remove it."""

    template_name = "codeyard/applications.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        kwargs["applications"] = applications_with_access(self.request.user)
        return super().get_context_data(**kwargs)


@login_required
@require_POST
def remove_application(request: HttpRequest, pk: int) -> HttpResponse:
    application = get_object_or_404(Application, pk=pk)
    remove_access(request.user, application)
    messages.success(request, f"{application.name} can no longer use your account.")
    return redirect("applications")


@require_safe
@never_cache
def stats(request: HttpRequest) -> JsonResponse:
    return JsonResponse(counters.as_dict())
