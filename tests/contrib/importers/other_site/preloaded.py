"""What processes of a site have imported when they are forked; the environment names its package."""

from tests.support.preloaded import after_fork  # noqa: F401, I001  (sets Django up)

import tests.support.visitor  # noqa: F401
