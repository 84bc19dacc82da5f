"""The protocol has no bad state and none that is stuck; without any one of its rules it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.model.cutover_model import MUTANTS, Protocol
from tests.model.exploration import MUTANT_BOUNDS, PROTOCOL_BOUNDS, SMALL, explore


@pytest.mark.parametrize("bounds", PROTOCOL_BOUNDS, ids=str)
def test_the_protocol_has_no_bad_state_and_none_that_is_stuck(bounds: Mapping[str, Any]) -> None:
    found = explore(Protocol(**bounds))
    assert found.problem is None, " > ".join(found.trace)
    assert found.states > 1000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_this_rule_the_protocol_breaks(mutant: str) -> None:
    found = explore(Protocol(mutant, **MUTANT_BOUNDS.get(mutant, SMALL)))
    assert found.problem, f"{mutant} ({MUTANTS[mutant]}) was not found in {found.states} states"
    assert found.trace
