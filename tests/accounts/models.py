"""A user model of a site's own, with the key type that most often breaks an app: a UUID."""

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class Note(models.Model):
    """What a site keeps beside a connection."""

    connection = models.OneToOneField("oauth_connect.Connection", on_delete=models.CASCADE, related_name="+")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text
