"""The output of a login at a terminal: address, code, QR code and a countdown."""

from __future__ import annotations

import importlib
import importlib.util
import io
import shutil
from typing import Any

from django.core.management.base import OutputWrapper

# From the extra "keyring". Without it there is no QR code.
segno: Any = importlib.import_module("segno") if importlib.util.find_spec("segno") else None


class Screen:
    """Writes lines to any output. On a terminal it also shows a countdown and a QR code."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._is_terminal = bool(out.isatty())
        self._counting = False

    def line(self, text: str = "") -> None:
        """Write a line and flush it. The command waits for a user, who may read it through a pipe."""
        self.end_countdown()
        self._out.write(text, _plain)
        self._out.flush()

    def countdown(self, left: float) -> None:
        """Show the seconds left. This replaces the countdown that was shown before."""
        if self._is_terminal:
            minutes, seconds = divmod(int(left), 60)
            self._out.write(f"\rWaiting for you: {minutes}:{seconds:02} left \b", _plain, ending="")
            self._out.flush()
            self._counting = True

    def end_countdown(self) -> None:
        if self._counting:
            self._counting = False
            self._out.write("", _plain)

    def qr_code(self, url: str) -> None:
        """Draw an address as a QR code if the terminal is wide enough and its encoding has the characters."""
        if segno is None or not self._is_terminal:
            return
        picture = io.StringIO()
        segno.make(url, error="l", micro=False).terminal(picture, compact=True, border=2)
        drawn = picture.getvalue()
        width = max(map(len, drawn.splitlines()))
        if width < shutil.get_terminal_size().columns and self._can_print(drawn):
            self.line(drawn.rstrip("\n"))

    def _can_print(self, text: str) -> bool:
        try:
            text.encode(getattr(self._out, "encoding", None) or "ascii")
        except (UnicodeError, LookupError):
            return False
        return True


def _plain(text: str) -> str:
    """Return the text without a style. The default style of standard error marks errors."""
    return text
