from __future__ import annotations

from django.conf import settings
from django.db import models


class Repository(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="repositories")
    name = models.SlugField(unique=True)
    description = models.CharField(max_length=200)
    language = models.CharField(max_length=40)
    stars = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return self.name


class Activity(models.Model):
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="activity")
    actor = models.CharField(max_length=150)
    text = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "activity"

    def __str__(self) -> str:
        return f"{self.actor} {self.text}"
