"""A person who uses Codeyard's pages over HTTP, as in a browser.

``python -m tests.support.person URL`` is that browser as a program. It signs in, allows access, and
follows the redirect.
"""

from __future__ import annotations

import sys

from example_project.demo.browser import Browser, Page
from example_project.logins import CODEYARD


class Person:
    def __init__(self, username: str = "ada") -> None:
        self.browser = Browser()
        self.username = username

    def open(self, url: str) -> Page:
        """Open a page, and sign in if it asks for that."""
        page = self.browser.get(url)
        if page.form_with("Sign in"):
            page = self.press(page, "Sign in", username=self.username, password=CODEYARD.password)
        return page

    def press(self, page: Page, button: str, **filled: str) -> Page:
        form = page.form_with(button)
        assert form is not None, page
        return self.browser.submit(page, form, button, **filled)

    def enter_code(self, address: str, code: str) -> Page:
        """Enter the code of a device, and return the page that asks for consent."""
        return self.press(self.open(address), "Continue", user_code=code)

    def answer_device(self, address: str, code: str, *, allow: bool = True) -> Page:
        return self.press(self.enter_code(address, code), "Allow" if allow else "Deny")


if __name__ == "__main__":
    person = Person()
    person.press(person.open(sys.argv[1]), "Allow")
