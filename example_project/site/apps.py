from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class DeskConfig(AppConfig):
    name = "example_project.site"
    label = "desk"
    verbose_name = "Desk"

    def ready(self) -> None:
        from .people import create_people_for_development

        post_migrate.connect(create_people_for_development, sender=apps.get_app_config("auth"))
