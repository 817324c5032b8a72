"""The table of packages that store nothing."""

from django.conf import settings
from django.db import models


class DocumentedToken(models.Model):
    """The model of Authlib's documentation for Django, in plain text, with fields that are wide enough."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    name = models.CharField(max_length=40)
    token_type = models.CharField(max_length=40)
    access_token = models.TextField()
    refresh_token = models.TextField()
    expires_at = models.PositiveBigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="documented_token")]

    def __str__(self) -> str:
        return f"token {self.pk}"

    def to_token(self) -> dict[str, object]:
        return {
            "token_type": self.token_type,
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "expires_at": self.expires_at,
        }
