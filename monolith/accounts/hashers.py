"""Password hashing of the example."""

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher


class ExamplePBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """EXAMPLE ONLY: PBKDF2 with few rounds, so that a demonstration measures routing and not hashing.

    The encoded format is Django's (`pbkdf2_sha256$...`); a real shop keeps Django's own rounds.
    """

    iterations = settings.ENVIRONMENT.pbkdf2_iterations
