"""Where other packages keep their tokens, one module a package: what ``manage.py oauth_import`` reads.

A module has a class ``Tokens``, a ``Source`` of oauth_connect.jobs.import_tokens. Nothing here writes.
"""
