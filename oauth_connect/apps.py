from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OAuthConnectConfig(AppConfig):
    name = "oauth_connect"
    verbose_name = _("OAuth connections")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from oauth_connect import checks, receivers, redaction  # noqa: F401  (checks register themselves)

        redaction.install()
        receivers.connect()
