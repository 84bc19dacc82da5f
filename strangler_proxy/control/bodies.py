"""What calls may carry, parsed at the edge. Unknown fields are refused: a misspelt `dry_run` must not act."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_WAIT_S = 300.0


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileBody(_Body):
    """A capability file as it was read."""

    name: str = Field(min_length=1, max_length=400)
    text: str = Field(max_length=1_000_000)


class ApplyBody(_Body):
    """`POST /v1/apply`. `environment` holds the values of the variables that the files name."""

    files: list[FileBody] = Field(min_length=1, max_length=200)
    environment: dict[str, str] = Field(default_factory=dict, max_length=200)
    reason: str = Field("", max_length=500)
    dry_run: bool = False
    if_revision: int | None = None
    wait_s: float = Field(0.0, ge=0.0, le=MAX_WAIT_S)


class FlipBody(_Body):
    """`POST /v1/flags/KEY/flip`. `wait_s`: how long to wait for a moment of lag, then for proxies, at most (0: not)."""

    stage: str = Field(max_length=40)
    weight: int | None = None
    reason: str = Field("", max_length=500)
    dry_run: bool = False
    if_revision: int | None = None
    wait_s: float = Field(0.0, ge=0.0, le=MAX_WAIT_S)


class SyncBody(_Body):
    """`POST /v1/flags/KEY/sync`. `confirm`: the flag's key, where stopping would hurt; `replace`: rows there may go."""

    running: bool
    replace: bool = False
    reason: str = Field("", max_length=500)
    confirm: str = Field("", max_length=100)


class VerifyBody(_Body):
    """`POST /v1/flags/KEY/sync/verify`. `repair`: again until nothing differs."""

    repair: bool = False
    reason: str = Field("", max_length=500)


class PromoteBody(_Body):
    """`POST /v1/flags/KEY/sync/promote`. Both are needed: what was not handed on is lost."""

    accept_loss: bool = False
    confirm: str = Field("", max_length=100)
    reason: str = Field("", max_length=500)


class RetireBody(_Body):
    """`POST /v1/flags/KEY/retire`. `confirm`: the flag's key. `dump_dir` is a folder on the worker's host."""

    action: str = Field("retire", pattern="^(retire|drop|undo)$")
    confirm: str = Field("", max_length=100)
    dry_run: bool = False
    after_days: float | None = Field(None, ge=0, le=3650)
    without_census: bool = False
    accept_touches: bool = False
    dump_dir: str = Field("", max_length=1000)
    reason: str = Field("", max_length=500)


class ReasonBody(_Body):
    """A verb that needs nothing but perhaps a reason."""

    reason: str = Field("", max_length=500)


class WhyBody(_Body):
    """`POST /v1/why`: a request to explain. It changes nothing."""

    method: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")
    url: str = Field(min_length=1, max_length=8_192)
    user: str | None = Field(None, max_length=500)
    headers: dict[str, str] = Field(default_factory=dict, max_length=100)
    override: str | None = Field(None, pattern="^(monolith|extracted)$")
    killed: bool = False
    own_write: bool = False
