"""The form for variables on the connect page, for example the shop or tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from oauth_connect.errors import InvalidProvider
from oauth_connect.flows.typed_values import MAX_TYPED, typed_value
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable


class VariablesForm(forms.Form):
    """Has a field for each variable that the user must enter, with the variable's name."""

    def __init__(
        self, provider: Provider, variables: Mapping[str, Variable], data: Any = None, **options: Any
    ):
        super().__init__(data, **options)
        self.provider = provider
        for name, variable in variables.items():
            self.fields[name] = _field(name, variable)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, value in list(cleaned.items()):
            try:
                cleaned[name] = typed_value(self.provider, name, value)
            except InvalidProvider:
                self._refuse(name)
        return cleaned

    def refuse_all(self) -> None:
        """Refuse the values because the provider's URLs cannot contain them, though each fits its pattern."""
        for name in self.fields:
            self._refuse(name)

    def _refuse(self, name: str) -> None:
        message = self.fields[name].error_messages["pattern"]
        self.add_error(name, forms.ValidationError(message, code="pattern"))

    def full_clean(self) -> None:
        super().full_clean()
        for name in list(self.errors)[:1]:  # keyboards and screen readers begin at the first error
            if name in self.fields:
                self.fields[name].widget.attrs["autofocus"] = True

    @property
    def errors_by_path(self) -> dict[str, list[str]]:
        """Return the errors by the field's path in the settings."""
        return {
            f"{self.provider.slug}.variables.{name}": [str(error) for error in errors]
            for name, errors in self.errors.items()
        }


def _field(name: str, variable: Variable) -> forms.Field:
    label = variable.label or name
    if variable.choices:
        choices = [(choice, choice) for choice in variable.choices]
        field: forms.Field = forms.ChoiceField(label=label, choices=choices, initial=variable.default)
    else:
        # The input of a phone would correct "my-shop" to a word.
        text = forms.TextInput(attrs={"autocapitalize": "none", "autocorrect": "off", "spellcheck": "false"})
        field = forms.CharField(label=label, max_length=MAX_TYPED, initial=variable.default, widget=text)
        if variable.example:
            field.help_text = format_lazy(_("For example {example}"), example=variable.example)
    like = variable.example or variable.default
    message = (
        format_lazy(_("Enter it like {example}."), example=like) if like else _("This value is not valid.")
    )
    field.error_messages["pattern"] = message
    if like:
        field.error_messages["required"] = message
    return field
