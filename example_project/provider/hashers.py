from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class DemoPasswordHasher(PBKDF2PasswordHasher):
    """One iteration: these passwords are printed on the screen, the client secret is random.

    Stretching them would protect nothing, and cost every start and every token request.
    """

    algorithm = "pbkdf2_sha256_demo"
    iterations = 1
