"""One frozen settings object per process, from `SHOP_*`. Bad values stop the start, all listed at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SHOP_"


class BadSettings(Exception):
    """Some variables are missing or wrong; the message has one line each and no value (they hold secrets)."""


def _postgresql(url: str) -> str:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    return url


def _broker(url: str) -> str:
    if not url.startswith(("redis://", "rediss://", "amqp://", "amqps://")):
        raise ValueError("must begin with redis:// or amqp://")
    return url


class DatabaseSettings(BaseSettings):
    """What every process of the service needs. `database_url`: the service's own database, as its own role."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: Annotated[str, AfterValidator(_postgresql), Field(repr=False)]


class ServeSettings(DatabaseSettings):
    """The web process.

    `pbkdf2_iterations`: rounds of new passwords, few on purpose in the example. `hashing_threads` run at once and
    `hashing_waiting` wait before sign-ins are refused with 503. `database_pool_size`: connections at most.
    """

    public_keys_dir: Path
    signing_key_file: Path
    pbkdf2_iterations: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    hashing_threads: Annotated[int, Field(ge=1, le=64)] = max(1, min(4, os.cpu_count() or 1))
    hashing_waiting: Annotated[int, Field(ge=0, le=10_000)] = 64
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10


class MessagingSettings(DatabaseSettings):
    """The outbox relay."""

    broker_url: Annotated[str, AfterValidator(_broker), Field(repr=False)]


S = TypeVar("S", bound=DatabaseSettings)


def load_settings(kind: type[S]) -> S:
    """Read the environment; raises `BadSettings` with every bad variable."""
    try:
        return kind()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(map(str, fault['loc'])).upper()}: {_say(fault['type'], fault['msg'])}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise BadSettings("\n".join(lines)) from None


def _say(kind: Literal["missing"] | str, message: str) -> str:
    return "is not set" if kind == "missing" else message.removeprefix("Value error, ")
