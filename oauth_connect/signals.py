"""Signals. Each carries ``connection``, never a token, and fires after this package's own commit.

``refresh_failed`` and ``reauthorization_required`` also carry ``code``, the error's stable word.
A receiver that raises is logged by Django and changes nothing.
"""

from django.dispatch import Signal

connected = Signal()
refreshed = Signal()
refresh_failed = Signal()
reauthorization_required = Signal()
disconnected = Signal()
