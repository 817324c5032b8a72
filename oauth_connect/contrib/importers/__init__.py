"""Reads the tokens of other packages for ``manage.py oauth_import``, one module for each package.

A module has a class ``Tokens``, a ``Source`` of oauth_connect.jobs.import_tokens. These modules only read.
"""
