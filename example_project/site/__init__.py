"""Desk: a small site whose users connect their accounts at Codeyard."""
