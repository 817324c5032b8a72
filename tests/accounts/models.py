"""A user model of a site's own, with the key type that most often breaks an app: a UUID."""

import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AbstractUser
from django.db import models

from oauth_connect.models import Connection


class User(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class ProxyUser(User):
    class Meta:
        proxy = True


class Employee(User):
    """A child of the user model, with a primary key of its own."""

    user = models.OneToOneField(User, models.CASCADE, parent_link=True, related_name="+")
    number = models.AutoField(primary_key=True)


class Customer(AbstractBaseUser):
    """Signs in elsewhere. It is no user of this site, though a primary key may be the same."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    login = models.CharField(max_length=50, unique=True)
    USERNAME_FIELD = "login"


class ProxyConnection(Connection):
    class Meta:
        proxy = True


class TaggedConnection(Connection):
    """What a site keeps in a table of its own, as a child of the connection."""

    tag = models.CharField(max_length=50, blank=True)


class Note(models.Model):
    """What a site keeps beside a connection."""

    connection = models.OneToOneField("oauth_connect.Connection", on_delete=models.CASCADE, related_name="+")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text
