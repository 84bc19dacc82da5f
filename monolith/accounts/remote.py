"""Accounts through the proxy: the seam's remote implementation."""

from __future__ import annotations

import json
from typing import Any

from monolith.accounts.rules import Registration
from monolith.config import remote
from monolith.config.problem import Answer, Problem, encode, refusal

REGISTER = "/api/auth/register"
TOKEN = "/api/auth/token"


class RemoteAccounts:
    """Answers with user ids; the rows arrive in the local copy a moment later (`local.known_user`)."""

    def register(self, registration: Registration) -> int:
        """Raises `Problem` `email_taken`. Not repeated once sent: a second one would find the address taken."""
        body = {"email": registration.email, "password": registration.password, "name": registration.name}
        return _user_id(remote.call("POST", REGISTER, body=encode(body).encode()))

    def verify(self, email: str, password: str) -> int:
        """Raises `Problem` `invalid_credentials` or `too_many_attempts`.

        The refresh token that comes with the answer is not kept: a Django session needs none.
        """
        body = encode({"email": email, "password": password}).encode()
        return _user_id(remote.call("POST", TOKEN, body=body, repeatable=True))


def _user_id(answer: Answer) -> int:
    if answer.status >= 400:
        raise refusal(answer)
    try:
        document: dict[str, Any] = json.loads(answer.text)
        return int(document["user"]["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise Problem("service_unavailable") from error
