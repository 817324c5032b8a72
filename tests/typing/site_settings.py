"""The settings from which the plugin of django-stubs learns the models of a site."""

SECRET_KEY = "of a site"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth_connect"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
