from django.db import models


class Token(models.Model):
    """A token as a site might keep it: two sealed columns, an expiry and a lease."""

    access_token = models.TextField()
    refresh_token = models.TextField()
    expires_at = models.DateTimeField(db_index=True)
    leased_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"token {self.pk}"
