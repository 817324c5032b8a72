"""The form for variables on the connect page, for example the shop or tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from oauth_connect.errors import InvalidProvider
from oauth_connect.flows.completion import typed_value
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
            label = variable.label or name
            if variable.choices:
                choices = [(choice, choice) for choice in variable.choices]
                self.fields[name] = forms.ChoiceField(label=label, choices=choices, initial=variable.default)
            else:
                self.fields[name] = forms.CharField(label=label, max_length=255, initial=variable.default)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, value in list(cleaned.items()):
            try:
                cleaned[name] = typed_value(self.provider, name, value)
            except InvalidProvider:
                self.add_error(name, forms.ValidationError(_("This value is not valid."), code="pattern"))
        return cleaned

    @property
    def errors_by_path(self) -> dict[str, list[str]]:
        """Return the errors by the field's path in the settings."""
        return {
            f"{self.provider.slug}.variables.{name}": [str(error) for error in errors]
            for name, errors in self.errors.items()
        }
