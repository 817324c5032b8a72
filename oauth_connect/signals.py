"""Signals. Each passes ``connection``, never a token, and is sent after this package's own commit.

``refresh_failed`` and ``reauthorization_required`` also pass ``code``, the error's stable word.
If a receiver raises, Django logs the error and nothing else changes.
"""

from django.dispatch import Signal

connected = Signal()
refreshed = Signal()
refresh_failed = Signal()
reauthorization_required = Signal()
disconnected = Signal()
