"""What forms, inlines, lookups, pickles and packages that copy rows see of a connection."""

from __future__ import annotations

import copy
import json
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection as database
from django.db import models
from django.db.migrations.executor import MigrationExecutor
from django.forms import modelform_factory
from django.template import Context, Template
from django.test.utils import isolate_apps
from django.urls import include, path

from oauth_connect.conf import conf
from oauth_connect.contrib.httpx import ConnectionAuth
from oauth_connect.errors import IncompleteConnection
from oauth_connect.models import PROTOCOL_COLUMNS, Connection, PendingRevocation
from oauth_connect.models.lifecycle.access import ConnectionSource
from oauth_connect.models.row import IDENTITY_COLUMNS, identity_of
from tests.accounts.models import User
from tests.support.tokens import protocol_state, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


# --- forms ----------------------------------------------------------------------------------------


def test_a_form_of_all_fields_offers_the_sites_own() -> None:
    assert set(modelform_factory(Connection, fields="__all__").base_fields) == {"account_label", "extra"}
    for name in (PROTOCOL_COLUMNS | IDENTITY_COLUMNS) - {"user_id"}:
        assert not Connection._meta.get_field(name).editable, name


class Inline(admin.TabularInline):  # type: ignore[type-arg]
    model = Connection
    fk_name = "user"
    extra = 1


class Users(UserAdmin):  # type: ignore[type-arg]
    inlines = [Inline]


@pytest.fixture
def site(settings: Any) -> str:
    """A site's own admin, in which the users have an inline of their connections."""
    own = admin.AdminSite("own")
    own.register(User, Users)
    urls: Any = types.ModuleType("own_urls")
    urls.urlpatterns = [path("own/", own.urls), path("oauth/", include("oauth_connect.urls"))]
    settings.ROOT_URLCONF = urls
    return "/own/accounts/user/"


@pytest.mark.compliance("D45")
def test_an_inline_shows_no_ciphertext_and_saves_the_sites_columns_only(
    make_connection: Any, user: Any, site: str, admin_client: Any
) -> None:
    connection = make_connection(account_label="old")
    before = protocol_state(connection)
    page = admin_client.get(f"{site}{user.pk}/change/")
    assert b"gAAAA" not in page.content
    form = page.context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    (formset,) = (inline.formset for inline in page.context["inline_admin_formsets"])
    for one in (formset.management_form, *formset.forms):
        data |= {one.add_prefix(name): one[name].value() for name in one.fields}
        data[f"initial-{one.add_prefix('extra')}"] = "{}"  # a hidden input, because the default is a callable
    prefix = formset.forms[0].prefix
    data = {name: value for name, value in data.items() if value is not None}
    data |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00", f"{prefix}-extra": "{}"}
    data |= {f"{prefix}-account_label": "new", f"{prefix}-status": "revoked", f"{prefix}-version": "99"}
    data |= {f"{prefix}-user": str(user.pk), f"{prefix}-owner": "org:1"}
    saved = admin_client.post(f"{site}{user.pk}/change/", data)
    assert saved.status_code == 302, saved.context["errors"]
    assert protocol_state(connection) == before
    assert (stored(connection).account_label, stored(connection).user) == ("new", user)


# --- rows -----------------------------------------------------------------------------------------


def test_a_row_without_identity_is_not_saved(user: Any) -> None:
    row = {"owner": f"user:{user.pk}", "user": user, "provider": "scripted"}
    for create in (
        lambda: Connection(**row).save(),
        lambda: Connection.objects.create(**row),
        lambda: Connection.objects.bulk_create([Connection(**row)]),
        lambda: Connection.objects.get_or_create(**row),
        lambda: Connection(**row, identity="made up").save(),
    ):
        with pytest.raises(IncompleteConnection):
            create()
    form = modelform_factory(Connection, fields="__all__")({"extra": "{}"})
    assert "identity is missing" in str(form.errors)
    assert not Connection.objects.exists()
    Connection(**row, identity=identity_of(f"user:{user.pk}", "scripted", "")).save()


def test_rows_without_a_token_are_found(make_connection: Any, scripted: Any) -> None:
    connected, ended = make_connection(), make_connection()
    ended.disconnect()
    rows = Connection.objects.all()
    assert list(rows.filter(sealed_token=None)) == [ended]
    assert list(rows.exclude(sealed_token=None)) == [connected]
    assert list(rows.exclude(sealed_token__isnull=True)) == [connected]
    assert list(rows.filter(models.Q(sealed_token=None) | models.Q(provider="x"))) == [ended]
    with pytest.raises(FieldError, match="searched"):
        rows.filter(sealed_token=connected.sealed_token)
    with pytest.raises(FieldError):
        rows.filter(sealed_token__startswith="gAAAA")


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.compliance("D45")
def test_the_sealed_token_is_shown_as_a_mask(make_connection: Any) -> None:
    """A serializer that shows all fields (Django REST framework) calls ``str`` of each value."""
    connection = make_connection()
    sealed = connection.sealed_token
    shown = [str(sealed), repr(sealed), f"{sealed}", f"{sealed!s:>9}", f"{[sealed]}"]
    shown.append(Template("{{ row.sealed_token }}").render(Context({"row": connection})))
    shown.append(str(list(Connection.objects.values())))
    assert not [text for text in shown if "gAAAA" in text]
    assert sealed.ciphertext.startswith("gAAAA")
    assert type(sealed.ciphertext) is str


@pytest.mark.parametrize("kind", ["json", "jsonl", "xml", "python"])
def test_a_fixture_holds_the_ciphertext(make_connection: Any, kind: str) -> None:
    connection = make_connection()
    dump = serializers.serialize(kind, [connection])
    Connection.objects.all().delete()
    (loaded,) = serializers.deserialize(kind, dump)
    loaded.save()
    assert stored(connection).access_token() == "access-0"


def test_a_json_column_of_the_ciphertext_is_plain_text(make_connection: Any) -> None:
    assert json.loads(json.dumps({"sealed": make_connection().sealed_token}))["sealed"].startswith("gAAAA")


# --- pickles --------------------------------------------------------------------------------------


@pytest.mark.compliance("D45")
@pytest.mark.parametrize(
    "get",
    [
        lambda row: row.session(),
        lambda row: row.session().auth,
        lambda row: ConnectionSource(row),
        lambda row: ConnectionAuth(row),
        lambda row: row.token,
        lambda row: row.get_provider(),
        lambda row: conf.provider("scripted"),
        lambda row: [row.get_declared_provider()],
    ],
)
def test_what_holds_a_secret_is_not_pickled(make_connection: Any, get: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(get(make_connection()))


def test_a_pickled_connection_holds_the_sealed_token_only(make_connection: Any) -> None:
    connection = make_connection()
    connection.access_token()
    dumped = pickle.dumps(connection)
    assert b"access-0" not in dumped
    assert pickle.loads(dumped).access_token() == "access-0"  # noqa: S301


def test_a_provider_can_still_be_copied() -> None:
    provider = conf.provider("scripted")
    assert copy.copy(provider) is provider is copy.deepcopy(provider)


# --- packages that copy rows ----------------------------------------------------------------------


@isolate_apps("tests.accounts")
@pytest.mark.parametrize(("model", "empty"), [(Connection, None), (PendingRevocation, "")])
def test_a_copied_column_stays_empty(make_connection: Any, model: type[models.Model], empty: object) -> None:
    sealed = make_connection().sealed_token
    field: Any = copy.copy(model._meta.get_field("sealed_token"))
    meta = type("Meta", (), {"app_label": "accounts"})
    fields = {"sealed_token": field, "__module__": __name__, "Meta": meta}
    history = type("HistoricalRow", (models.Model,), fields)

    assert field.pre_save(history(sealed_token=sealed), True) == empty
    ours = model._meta.get_field("sealed_token")
    assert ours.pre_save(model(sealed_token=sealed), True) == sealed


def test_a_data_migration_writes_the_column(make_connection: Any) -> None:
    connection = make_connection()
    loader = MigrationExecutor(database).loader
    row = loader.project_state().apps.get_model("oauth_connect", "Connection").objects.get(pk=connection.pk)
    row.save()
    assert Connection.objects.get(pk=connection.pk).sealed_token == connection.sealed_token
