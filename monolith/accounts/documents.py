"""Users as they are told."""

from __future__ import annotations

from typing import Any

from monolith.accounts.models import User
from monolith.config.moments import timestamp


def user_document(user: User) -> dict[str, Any]:
    """The `User` of docs/reference/http-api.md."""
    return {"id": user.pk, "email": user.email, "name": user.name, "created_at": timestamp(user.created_at)}
