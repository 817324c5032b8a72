"""The base class of all admins in this package, which show rows and change nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic where Django runs
    """An admin without add, change and delete. ``masked`` columns are not shown, loaded or filtered by."""

    masked: frozenset[str] = frozenset()
    list_per_page = 50

    class Media:
        css = {"all": ["oauth_connect/admin.css"]}

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*(super().get_exclude(request, obj) or ()), *self.masked]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Return all fields: a subclass may permit changes, so that staff can edit its inlines."""
        if not (self.fieldsets or self.fields):  # a subclass without both: Django lists the form's fields
            return list(super().get_readonly_fields(request, obj))
        return list(flatten_fieldsets(self.get_fieldsets(request, obj)))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.masked)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse masked columns. Django lets a URL filter by any column, so their values could be guessed."""
        if lookup.partition("__")[0] in self.masked:
            return False
        return super().lookup_allowed(lookup, value, request)
