"""What uvicorn and Celery workers have imported when they are forked."""

from tests.support.preloaded import after_fork  # noqa: F401, I001  (sets Django up)


import oauth_connect.contrib.celery  # noqa: F401
