"""The model fields of sealed tokens, and of keys."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.db.models import lookups
from fernet_fields import EncryptedTextField

APP = "oauth_connect"
FERNET_PREFIX = "gAAAA"  # version 0x80 and the high bytes of a time stamp, in base64


class Sealed(str):
    """A ciphertext. The field accepts and returns no other type.

    Shown as a mask, because a serializer or a page of a site may show all columns. ``ciphertext``: its text.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "<sealed>"

    __repr__ = __str__

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    @property
    def ciphertext(self) -> str:
        return str.__str__(self)


class SealedField(EncryptedTextField):  # type: ignore[misc]  # the package has no types
    """An encrypted field whose value stays sealed on the instance; the caller unseals it explicitly.

    The base class decrypts every row it loads, encrypts the ``repr`` of an expression, writes plain text into
    fixtures, and never reloads its keys. This class passes ciphertext through unchanged and refuses any other
    value.
    """

    description = "Sealed value"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["editable"]
        return name, path, args, kwargs

    def from_db_value(self, value: Any, expression: Any, connection: Any, *args: Any) -> Sealed | None:
        return None if value is None else Sealed(bytes(value).decode("ascii"))

    def to_python(self, value: Any) -> Sealed | None:
        if value is None or isinstance(value, Sealed):
            return value
        text = value if isinstance(value, str) else bytes(value).decode("ascii", "replace")
        if not text.startswith(FERNET_PREFIX):
            raise ValidationError("This field stores only sealed values, never plain text.")
        return Sealed(text)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Return the value to save. In another app's model, which copies rows with their fields, it is empty.

        Neither a disconnect nor a change of KEYS would reach the copy.
        """
        value = super().pre_save(model_instance, add)
        if self.model._meta.app_label == APP or any(_is_ours(base) for base in self.model.__mro__):
            return value
        return None if self.null else Sealed("")

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return self.get_db_prep_save(value, connection)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if value is None:
            return None
        if hasattr(value, "as_sql"):
            return self._checked_expression(value)
        if not isinstance(value, Sealed):
            raise FieldError(f"{self.name}: only a sealed value can be stored, not a {type(value).__name__}.")
        return connection.Database.Binary(value.encode("ascii"))

    def value_to_string(self, obj: Any) -> str:
        value = self.value_from_object(obj)
        return value.ciphertext if isinstance(value, Sealed) else str(value)

    def _checked_expression(self, value: Any) -> Any:
        """Return an expression whose output is sealed. Refuse others, because they would store plain text."""
        if not isinstance(getattr(value, "_output_field_or_none", None), SealedField):
            raise FieldError(f"{self.name}: the output_field of an expression must be a SealedField.")
        return value


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == APP


class _NoneOnly(lookups.Exact):
    """Lets ``sealed_token=None`` mean IS NULL. A sealing always differs, so no other value is found."""

    def get_prep_lookup(self) -> None:
        if self.rhs is not None:
            raise FieldError("A sealed value cannot be searched for. Only None can.")


SealedField.register_lookup(_NoneOnly)


class KeyField(models.CharField):  # type: ignore[type-arg]  # Django's class takes no parameters
    """A text column that every database compares byte by byte: an owner, a provider, an account.

    The usual collations of MariaDB and MySQL treat case, accents and trailing blanks as equal. One owner
    would then find the connections of another.
    """

    description = "Key (up to %(max_length)s), compared byte by byte"

    def db_type(self, connection: Any) -> str | None:
        column = super().db_type(connection)
        return f"{column} CHARACTER SET utf8mb4" if connection.vendor == "mysql" else column

    def db_parameters(self, connection: Any) -> Any:
        parameters: Any = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = _binary_collation(connection)
        return parameters


def _binary_collation(connection: Any) -> str:
    """Return the collation that compares bytes and does not pad with blanks (MySQL: 8.0.17 and newer)."""
    if connection.mysql_is_mariadb:
        return "utf8mb4_nopad_bin"
    return "utf8mb4_0900_bin" if connection.mysql_version >= (8, 0, 17) else "utf8mb4_bin"


class _IgnoringCase:
    """Lets a lookup ignore case on MariaDB and MySQL, where the column's collation decides that."""

    def process_lhs(self, compiler: Any, connection: Any, lhs: Any = None) -> Any:
        sql, parameters = super().process_lhs(compiler, connection, lhs)  # type: ignore[misc]  # a mixin
        return (f"{sql} COLLATE utf8mb4_general_ci" if connection.vendor == "mysql" else sql), parameters


for _lookup in (lookups.IExact, lookups.IContains, lookups.IStartsWith, lookups.IEndsWith, lookups.IRegex):
    KeyField.register_lookup(type(_lookup.__name__, (_IgnoringCase, _lookup), {}))
