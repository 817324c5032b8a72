"""A site of django-tenants: ``python -m tests.contrib.tenants_site DATABASE URL``.

DATABASE: the settings of an empty database, as JSON. URL: of the authorization server. It makes the tenant
"acme" and its clone "umbrella", refreshes their connections in several ways, and prints the results as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

TENANTS = ("acme", "umbrella")


def read(connection: Any) -> str:
    return str(connection.schema_name)


def write(connection: Any, schema_name: str) -> None:
    connection.set_schema(schema_name)


async def view(request: HttpRequest) -> HttpResponse:
    from oauth_connect.models import Connection

    connection = await Connection.objects.aget()
    return HttpResponse(await connection.aaccess_token())


urlpatterns = [path("token/", view)]


def main(database: dict[str, Any], url: str) -> None:
    configure(database, url)
    django.setup()
    make_tenants()
    print(json.dumps({"keys": keys(), **{name: step() for name, step in STEPS.items()}}))


def configure(database: dict[str, Any], url: str) -> None:
    shared = ["django_tenants", "tests.tenants", "django.contrib.contenttypes", "django.contrib.auth"]
    provider = {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "identity": {"source": "none"},
    }
    settings.configure(
        SECRET_KEY="of a test",
        USE_TZ=True,
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {**database, "ENGINE": "django_tenants.postgresql_backend"}},
        DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
        SHARED_APPS=shared,
        TENANT_APPS=["oauth_connect"],
        INSTALLED_APPS=[*shared, "oauth_connect"],
        TENANT_MODEL="tenants.Tenant",
        TENANT_DOMAIN_MODEL="tenants.Domain",
        MIDDLEWARE=["django_tenants.middleware.main.TenantMainMiddleware"],
        ROOT_URLCONF=__name__,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH_CONNECT={
            "KEYS": ["A" * 43 + "="],
            "PROVIDERS": {"acme": provider},
            "CONNECTION_STATE": (read, write),
        },
    )


def make_tenants() -> None:
    from django.core.management import call_command
    from django_tenants.clone import CloneSchema

    from tests.tenants.models import Domain, Tenant

    call_command("migrate_schemas", schema_name="public", verbosity=0)
    Tenant(schema_name="acme", name="acme").save(verbosity=0)
    store("acme", "acme-0")
    CloneSchema().clone_schema("acme", "umbrella", set_connection=False)
    clone = Tenant(schema_name="umbrella", name="umbrella")
    clone.auto_create_schema = False
    clone.save()
    for tenant in Tenant.objects.all():
        Domain.objects.create(tenant=tenant, domain=f"{tenant.schema_name}.example")
    store("umbrella", "umbrella-0")


def store(tenant: str, token: str) -> None:
    """Store an expired token in the tenant's one connection."""
    from django_tenants.utils import schema_context

    from oauth_connect.models import Connection

    with schema_context(tenant):
        Connection.objects.store(
            owner="org:1",
            provider="acme",
            token_response={
                "access_token": f"access-{token}",
                "refresh_token": f"refresh-{token}",
                "token_type": "Bearer",
                "expires_in": 3600,
            },
            obtained_at=datetime.now(UTC) - timedelta(hours=2),
        )


def each(of_connection: Any) -> dict[str, str]:
    from django_tenants.utils import schema_context

    from oauth_connect.models import Connection

    found = {}
    for tenant in TENANTS:
        with schema_context(tenant):
            found[tenant] = str(of_connection(Connection.objects.get()))
    return found


def keys() -> dict[str, str]:
    return each(lambda connection: connection.pk)


def stored() -> dict[str, str]:
    return each(lambda connection: connection.token.access_token)


def requests_of_both_tenants() -> Any:
    """Both at the same time, through Django's ASGI handler, which gives each request a thread of its own."""
    import httpx
    from django.core.asgi import get_asgi_application

    async def both() -> list[str]:
        transport = httpx.ASGITransport(get_asgi_application())
        async with httpx.AsyncClient(transport=transport) as client:
            found = await asyncio.gather(*[client.get(f"http://{name}.example/token/") for name in TENANTS])
        return [response.text for response in found]

    return {"responses": dict(zip(TENANTS, asyncio.run(both()), strict=True)), "stored": stored()}


def command_of_one_tenant() -> Any:
    from django.core.management import call_command, execute_from_command_line

    store("acme", "acme-2")
    store("umbrella", "umbrella-2")
    with contextlib.redirect_stdout(io.StringIO()):
        execute_from_command_line(["manage.py", "tenant_command", "oauth_refresh", "--schema=acme"])
        call_command("tenant_command", "oauth_refresh", schema_name="acme")
    leave()
    return {"stored": stored()}


def task_of_one_tenant() -> Any:
    from celery import Celery
    from celery.contrib.testing.worker import start_worker
    from django_tenants.utils import schema_context

    from oauth_connect.contrib.celery import refresh_connections

    app = Celery("site", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="refresh_tenant")
    def refresh_tenant(schema_name: str, pks: list[str]) -> dict[str, int]:
        with schema_context(schema_name):
            return refresh_connections(pks, provider="acme")

    with start_worker(app, perform_ping_check=False, shutdown_timeout=60):
        result = refresh_tenant.delay("umbrella", [keys()["umbrella"]]).get(timeout=60)
    return {"result": result, "stored": stored()}


def command_of_no_tenant() -> Any:
    from django.core.management import CommandError, call_command

    try:
        call_command("oauth_refresh", verbosity=0)
    except CommandError as error:
        return {"error": str(error)}
    return {}


def leave() -> None:
    from django.db import connection

    connection.set_schema_to_public()


STEPS = {
    "requests": requests_of_both_tenants,
    "command": command_of_one_tenant,
    "task": task_of_one_tenant,
    "no tenant": command_of_no_tenant,
}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
