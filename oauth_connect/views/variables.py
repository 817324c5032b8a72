"""The part of the connect page that asks for the shop, tenant or instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import Variable


class VariablesForm(forms.Form):
    """A field for each variable that users are asked for, under the variable's own name."""

    def __init__(self, provider: Provider, asked: Mapping[str, Variable], data: Any = None, **options: Any):
        super().__init__(data, **options)
        self.provider = provider
        for name, variable in asked.items():
            label = variable.label or name
            if variable.choices:
                choices = [(one, one) for one in variable.choices]
                self.fields[name] = forms.ChoiceField(label=label, choices=choices, initial=variable.default)
            else:
                self.fields[name] = forms.CharField(label=label, max_length=255, initial=variable.default)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, value in list(cleaned.items()):
            try:
                cleaned[name] = self.provider.value_of(name, value)
            except InvalidProvider:
                self.add_error(name, forms.ValidationError(_("This does not look right."), code="pattern"))
        return cleaned

    @property
    def errors_by_path(self) -> dict[str, list[str]]:
        """The errors under the path that the settings have for the field."""
        return {
            f"{self.provider.slug}.variables.{name}": [str(one) for one in found]
            for name, found in self.errors.items()
        }
