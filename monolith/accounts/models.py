"""People and their refresh tokens: the rows that move with flag `auth`. Attempts stay on each side."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.db.models.functions import Now

from monolith.accounts.rules import normalise_email
from monolith.config.fields import FixedCharField


class People(BaseUserManager["User"]):
    """Makes users by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Insert a user with a hashed password."""
        user = self.model(email=normalise_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Insert an administrator."""
        return self.create_user(email, password, **{"is_staff": True, "is_superuser": True, **fields})


class User(AbstractBaseUser, PermissionsMixin):
    """A person with an account.

    Only `id, email, password, name, is_active, created_at` move; the rest has database defaults, so that an
    INSERT of the moved columns alone makes a whole row.
    """

    id = models.BigAutoField(primary_key=True)
    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=150)
    is_active = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    is_staff = models.BooleanField(default=False, db_default=False)
    is_superuser = models.BooleanField(default=False, db_default=False)

    objects: ClassVar[People] = People()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["name"]

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        """As the admin greets."""
        return self.name

    def get_short_name(self) -> str:
        """As the admin greets."""
        return self.name


class RefreshToken(models.Model):
    """A refresh token, of which only the sha256 is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    token_hash = FixedCharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"refresh token of user {self.user_id}"


class SignInFailure(models.Model):
    """A failed sign-in: counted per side, not moved. `email_hash` is the sha256 of what was typed."""

    email_hash = FixedCharField(max_length=64)
    failed_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["email_hash", "failed_at"], name="accounts_failures")]

    def __str__(self) -> str:
        return f"failure at {self.failed_at}"
