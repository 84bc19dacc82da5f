"""The one place that talks to the control plane. Calls that change nothing are tried again, others never."""

from __future__ import annotations

import getpass
import re
import socket
from types import TracebackType
from typing import Any, Self

import httpx
import stamina
from stamina.instrumentation import set_on_retry_hooks

from strangler_proxy.core.errors import ControlUnreachable, DeclarationError, StranglerError, UnknownName
from strangler_proxy.settings import ClientSettings, load

Json = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")

set_on_retry_hooks(())  # it would log each retry to stdout, which belongs to data


class CallFailed(StranglerError):
    """The control plane said no; it says the exit code and the next command itself."""

    def __init__(self, document: Json, *, status: int) -> None:
        super().__init__(str(document.get("detail") or f"status {status}"), next_command=document.get("next_command"))
        self.code = document.get("code")
        self.exit_code = int(document.get("exit_code") or 1)


class Control:
    """A connection to the control plane, as the environment says. Use it as a context."""

    def __init__(self, settings: ClientSettings | None = None, *, attempts: int = 4) -> None:
        self.settings = settings or load(ClientSettings)
        self.url = self.settings.control_url.rstrip("/")
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {_token(self.settings)}", "Strangler-Actor": _actor()},
            timeout=self.settings.control_timeout_s,
            trust_env=False,
            verify=self.url.startswith(
                "https:"
            ),  # loading authorities takes longer than a call; redirects are not followed
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | None) -> Json:
        """Ask; tried again while nothing answers."""
        return self._safe("GET", path, {name: value for name, value in query.items() if value is not None}, None, 0.0)

    def acknowledgement(self, revision: int, *, wait_s: float) -> Json:
        """Who has taken a revision, after waiting at most so long for all live proxies."""
        return self._safe("GET", "/v1/acknowledgement", {"revision": revision, "wait_s": wait_s}, None, wait_s)

    def ask(self, path: str, body: Json) -> Json:
        """A POST that changes nothing."""
        return self._safe("POST", path, {}, body, 0.0)

    def post(self, path: str, body: Json, *, wait_s: float = 0.0) -> Json:
        """Change something: sent once. Raises ControlUnreachable; the message says whether the change may stand."""
        try:
            return self._send("POST", path, {}, body, wait_s)
        except httpx.ConnectError as error:
            raise self._away(error) from error
        except httpx.HTTPError as error:
            raise ControlUnreachable(
                f"the control plane at {self.url} took the call and did not answer ({_what(error)}): "
                "the change may stand or not",
                next_command="strangler status",
            ) from error

    def _safe(self, method: str, path: str, query: Json, body: Json | None, wait_s: float) -> Json:
        try:
            for attempt in stamina.retry_context(
                on=httpx.TransportError, attempts=self._attempts, timeout=None, wait_initial=0.1, wait_max=0.8
            ):
                with attempt:
                    return self._send(method, path, query, body, wait_s)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        raise AssertionError("unreachable: the loop returns or raises")

    def _send(self, method: str, path: str, query: Json, body: Json | None, wait_s: float) -> Json:
        limit = self.settings.control_timeout_s
        response = self._http.request(
            method,
            path,
            params=query,
            json=body,
            timeout=httpx.Timeout(limit, read=limit + wait_s),
        )
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict) or not ("schema_version" in document or "code" in document):
            raise ControlUnreachable(
                f"what answers at {self.url} is not a control plane (status {response.status_code})",
                next_command="export STRANGLER_CONTROL_URL=http://HOST:PORT",
            )
        if response.is_success:
            return document
        if problems := document.get("problems"):
            raise DeclarationError(problems)
        raise CallFailed(document, status=response.status_code)

    def _away(self, error: Exception) -> ControlUnreachable:
        return ControlUnreachable(
            f"the control plane at {self.url} does not answer ({_what(error)}); proxies go on serving what they have",
            next_command="strangler ps",
        )


def named(kind: str, name: str) -> str:
    """A name as a part of a path. Raises UnknownName for what cannot be one."""
    if not _NAME.fullmatch(name):
        raise UnknownName(
            f'there is no {kind} "{name}": names have letters, digits, "_", "-" and "." only',
            next_command=f"strangler {kind} list",
        )
    return name


def _what(error: Exception) -> str:
    return str(error) or type(error).__name__


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}".encode("ascii", "replace").decode()


def _token(settings: ClientSettings) -> str:
    if settings.control_token is None and settings.control_token_file is None:
        raise DeclarationError(
            [
                "no token: set STRANGLER_CONTROL_TOKEN_FILE or STRANGLER_CONTROL_TOKEN"
                " (`strangler up` says where it wrote them)"
            ]
        )
    try:
        token = (
            settings.control_token.get_secret_value()
            if settings.control_token is not None
            else settings.control_token_file.read_text().strip()  # type: ignore[union-attr]
        )
    except OSError as error:
        raise DeclarationError([f"STRANGLER_CONTROL_TOKEN_FILE: {error}"]) from None
    if not token.isascii() or not token.isprintable() or not token.strip():
        raise DeclarationError(
            ["the token is empty or holds characters that no token has: look at where it comes from"]
        )
    return token
