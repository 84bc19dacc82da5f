"""What calls about shadow mode may carry."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.rule_form import read_rule
from strangler_proxy.core.rules import Rule

_DECIMAL = r"^[0-9]{1,30}(\.[0-9]{1,30})?$"


class RuleBody(BaseModel):
    """`POST /v1/flags/KEY/shadow/rules`: a rule as `core/rule_form` writes it; without an id it gets one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field("", max_length=63, pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")
    kind: str = Field(pattern="^(ignore|tolerance|unordered|keyed|alias|compare)$")
    path: str = Field(min_length=1, max_length=1_000)
    owner: str = Field(min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=500)
    expires_on: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    route: str = Field("", max_length=1_000)
    kinds: list[str] = Field(default_factory=list, max_length=10)
    absolute: str | None = Field(None, pattern=_DECIMAL)
    relative: str | None = Field(None, pattern=_DECIMAL)
    scale: int | None = Field(None, ge=0, le=30)
    skew_s: float | None = Field(None, ge=0, le=31_536_000)
    key: str = Field("", max_length=200)
    alias: str = Field("", max_length=200)

    def rule(self) -> Rule:
        """As a rule. Raises DeclarationError for a date or a kind of difference that does not exist."""
        document: dict[str, Any] = self.model_dump()
        try:
            return read_rule(document)
        except ValueError as error:
            raise DeclarationError([f"rule: {error}"]) from None


class ExpireBody(BaseModel):
    """`POST /v1/flags/KEY/shadow/rules/ID/expire`. Without a day: today."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    on: str = Field("", pattern=r"^(\d{4}-\d\d-\d\d)?$")
    reason: str = Field("", max_length=500)

    def day(self, today: dt.date) -> dt.date:
        """The day. Raises DeclarationError for one that does not exist."""
        try:
            return dt.date.fromisoformat(self.on) if self.on else today
        except ValueError as error:
            raise DeclarationError([f'on "{self.on}": {error}']) from None


class ImportBody(BaseModel):
    """`POST /v1/flags/KEY/shadow/import`: lines of an export, the head first. The same `writer` again replaces."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    writer: str = Field(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")
    lines: list[str] = Field(min_length=1, max_length=5_000)
    reason: str = Field("", max_length=500)
