from __future__ import annotations

from django.apps import AppConfig


class CodeyardConfig(AppConfig):
    name = "example_project.provider"
    label = "codeyard"
    verbose_name = "Codeyard"
    default_auto_field = "django.db.models.BigAutoField"
