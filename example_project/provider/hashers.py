from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class DemoPasswordHasher(PBKDF2PasswordHasher):
    """Hashes with one iteration. The passwords are printed on the screen, and the client secret is random.

    More iterations would protect nothing, and would slow down every start and every token request.
    """

    algorithm = "pbkdf2_sha256_demo"
    iterations = 1
