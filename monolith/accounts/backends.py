"""Django's own sign-in (forms, admin) through the seam."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from monolith.accounts import api
from monolith.accounts.models import User
from monolith.config.problem import Problem


class SeamBackend(ModelBackend):
    """Passwords are verified where accounts are; permissions stay in the monolith. Nothing is rehashed."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        """The user, or None for wrong credentials; other failures leave what they said in `request.sign_in_refusal`."""
        email = username if username is not None else kwargs.get("email")
        if email is None or password is None:
            return None
        try:
            return api.verify(email, password)
        except Problem as problem:
            if request is not None:
                request.sign_in_refusal = problem  # type: ignore[attr-defined]
            return None
