"""What can be written without any package. These are no products: they never refresh, and check nothing."""

from __future__ import annotations

import requests

from benchmarks.others.recipe import BEARER, Documented, Recipe, WithSession, bearer, call


class PlainSession(WithSession):
    """The base of the ratios: no row, a header that is fixed."""

    name = "requests, fixed header"
    situations = ("held", "first_call", "call_on")

    def session(self) -> requests.Session:
        http = requests.Session()
        http.headers.update(BEARER)
        return http

    def call_on(self, http: requests.Session) -> None:
        call(http, headers=BEARER)


class PlainRow(Documented):
    name = "a plain row and requests"
    situations = ("first_call", "call_on", "loaded")

    def session(self) -> requests.Session:
        http = requests.Session()
        http.headers.update(bearer(self.row().access_token))
        return http

    def call_on(self, http: requests.Session) -> None:
        call(http, headers=bearer(self.row().access_token))


RECIPES: list[Recipe] = [PlainSession(), PlainRow()]
