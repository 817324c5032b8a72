"""The resource API. It returns JSON about the user who granted the bearer token."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Sum
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe
from oauth2_provider.decorators import protected_resource_metadata

from .models import Activity, Repository

RECENT = 20


@require_safe
@protected_resource_metadata(scopes=["profile"])
def user(request: HttpRequest) -> JsonResponse:
    owner = request.resource_owner
    return JsonResponse({"id": owner.pk, "login": owner.username, "name": owner.get_full_name()})


@require_safe
@protected_resource_metadata(scopes=["repositories"])
def repositories(request: HttpRequest) -> JsonResponse:
    owned = Repository.objects.filter(owner=request.resource_owner)
    return JsonResponse([_repository(repository) for repository in owned], safe=False)


@require_safe
@protected_resource_metadata(scopes=["activity"])
def repository_activity(request: HttpRequest, name: str) -> JsonResponse:
    repository = get_object_or_404(Repository, owner=request.resource_owner, name=name)
    return JsonResponse([_activity(line) for line in repository.activity.all()], safe=False)


@require_safe
@protected_resource_metadata(scopes=["activity"])
def recent_activity(request: HttpRequest) -> JsonResponse:
    lines = Activity.objects.filter(repository__owner=request.resource_owner)
    recent = lines.select_related("repository")[:RECENT]
    return JsonResponse([_activity(line) for line in recent], safe=False)


@require_safe
@protected_resource_metadata(scopes=["analytics"])
def analytics(request: HttpRequest) -> JsonResponse:
    """Return figures about all repositories. A client requests them with a token of its own."""
    found = Repository.objects.aggregate(repositories=Count("pk"), stars=Sum("stars"))
    return JsonResponse({**found, "people": User.objects.count()})


def _repository(repository: Repository) -> dict[str, Any]:
    return {
        "name": repository.name,
        "description": repository.description,
        "language": repository.language,
        "stars": repository.stars,
    }


def _activity(line: Activity) -> dict[str, Any]:
    return {
        "repository": line.repository.name,
        "actor": line.actor,
        "text": line.text,
        "at": line.at.isoformat(),
    }
