"""One frozen settings object per process, from `SHOP_*`. Bad values stop the start, all listed at once."""

from __future__ import annotations

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


def _http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


class DatabaseSettings(BaseSettings):
    """What every process of the service needs. `database_url`: the service's own database, as its own role."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: Annotated[str, AfterValidator(_postgresql), Field(repr=False)]


class ChargingSettings(DatabaseSettings):
    """Whoever talks to the card processor. `processor_timeout_s` bounds one call, from connecting to its last byte.

    `database_pool_size`: connections at most.
    """

    processor_url: Annotated[str, AfterValidator(_http)]
    processor_token: Annotated[str, Field(min_length=1, repr=False)]
    processor_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = 10


class ServeSettings(ChargingSettings):
    """The web process."""

    public_keys_dir: Path
    processor_webhook_secret: Annotated[str, Field(min_length=1, repr=False)]


class MessagingSettings(ChargingSettings):
    """The outbox relay and the sweeper. `in_doubt_after_s`: seconds until a missing outcome is asked for."""

    broker_url: Annotated[str, AfterValidator(_broker), Field(repr=False)]
    in_doubt_after_s: Annotated[float, Field(gt=0, le=3600)] = 15.0
    sweep_interval_s: Annotated[float, Field(gt=0, le=600)] = 2.0


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
