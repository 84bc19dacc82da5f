"""What the shop reads from its environment: parsed once, at the edge; bad values stop the start, all listed at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

T = TypeVar("T")

DEVELOPMENT_SECRET = "development-only-secret-key-not-for-any-real-use-0123456789"


class BadEnvironment(Exception):
    """One or more `SHOP_*` variables cannot be used; the message lists every one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The settings of one process of the monolith. Times in seconds; URLs without a trailing slash."""

    debug: bool
    secret_key: str
    database: dict[str, Any]
    broker_url: str
    proxy_url: str
    public_keys_dir: Path
    signing_key_file: Path
    processor_url: str
    processor_token: str
    processor_webhook_secret: str
    pbkdf2_iterations: int
    email_dir: Path
    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]


def read_environment(env: Mapping[str, str]) -> Environment:
    """Parse the `SHOP_*` variables of `env`.

    Raises `BadEnvironment` naming every variable that is wrong.

    >>> read_environment({"SHOP_DEBUG": "1"}).proxy_url
    'http://127.0.0.1:8000'
    """
    problems: list[str] = []

    def read(name: str, default: str | None, parse: Callable[[str], T]) -> T:
        text = env.get(name) or default
        try:
            if text is None:
                raise ValueError("is required (or set SHOP_DEBUG=1 for development)")
            return parse(text)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return parse(default) if default is not None else None  # type: ignore[return-value]

    debug = read("SHOP_DEBUG", "0", _flag)
    development = DEVELOPMENT_SECRET if debug else None
    proxy_url = read("SHOP_PROXY_URL", "http://127.0.0.1:8000", _http_url)
    parsed = Environment(
        debug=debug,
        secret_key=read("SHOP_SECRET_KEY", development, str),
        database=read("SHOP_DATABASE_URL", "postgresql://monolith@127.0.0.1:54320/monolith", _database),
        broker_url=read("SHOP_BROKER_URL", "redis://127.0.0.1:63790/0", _broker_url),
        proxy_url=proxy_url,
        public_keys_dir=read("SHOP_PUBLIC_KEYS_DIR", "var/keys", Path),
        signing_key_file=read("SHOP_SIGNING_KEY_FILE", "var/keys/monolith-1.pem", Path),
        processor_url=read("SHOP_PROCESSOR_URL", "http://127.0.0.1:8004", _http_url),
        processor_token=read("SHOP_PROCESSOR_TOKEN", "processor-token", str),
        processor_webhook_secret=read("SHOP_PROCESSOR_WEBHOOK_SECRET", "processor-webhook-secret", str),
        pbkdf2_iterations=read("SHOP_PBKDF2_ITERATIONS", "20000", _positive),
        email_dir=read("SHOP_EMAIL_DIR", "var/mail", Path),
        allowed_hosts=read("SHOP_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]", _words),
        trusted_origins=read("SHOP_TRUSTED_ORIGINS", proxy_url, _words),
    )
    if problems:
        raise BadEnvironment("the shop cannot start:\n  " + "\n  ".join(problems))
    return parsed


def _flag(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise ValueError(f"{text!r} is not 0 or 1")
    return values[text.lower()]


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a positive whole number")
    return int(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not an http:// address")
    return text.rstrip("/")


def _broker_url(text: str) -> str:
    if urlsplit(text).scheme not in ("redis", "rediss", "amqp", "amqps"):
        raise ValueError("not a redis:// or amqp:// address")
    return text


def _database(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise ValueError("not a postgresql://USER@HOST:PORT/NAME address")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }
