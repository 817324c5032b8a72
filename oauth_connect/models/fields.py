"""The model field of a sealed token."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldError, ValidationError
from fernet_fields import EncryptedTextField

FERNET_PREFIX = "gAAAA"  # version 0x80 and the high bytes of a time stamp, in base64


class Sealed(str):
    """A ciphertext. The field accepts and returns no other type."""

    __slots__ = ()


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
        return str(self.value_from_object(obj))

    def _checked_expression(self, value: Any) -> Any:
        """Return an expression whose output is sealed. Refuse others, because they would store plain text."""
        if not isinstance(getattr(value, "_output_field_or_none", None), SealedField):
            raise FieldError(f"{self.name}: the output_field of an expression must be a SealedField.")
        return value
