"""The tenants of the site in `tests.contrib.tenants_site`. Only that site has django-tenants installed."""

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    name = models.CharField(max_length=100)


class Domain(DomainMixin):
    pass
