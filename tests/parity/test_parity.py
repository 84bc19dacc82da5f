"""The page docs/reference/http-api.md holds at both implementations, and they cannot be told apart."""

from __future__ import annotations

import pytest

from tests.parity import cases_auth, cases_card_processor, cases_payments
from tests.parity.shop import PROBLEMS, Case, Heard

CASES = (*cases_auth.CASES, *cases_payments.CASES, *cases_card_processor.CASES)


def named(case: Case) -> str:
    return case.__name__


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_services_answer_as_the_page_says(case: Case, services_side: Heard) -> None:
    services_side.of(case)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_monolith_answers_as_the_page_says(case: Case, monolith_side: Heard) -> None:
    monolith_side.of(case)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_both_sides_answer_alike(case: Case, services_side: Heard, monolith_side: Heard) -> None:
    ours, theirs = services_side.of(case), monolith_side.of(case)
    assert len(ours) == len(theirs)
    for of_services, of_monolith in zip(ours, theirs, strict=True):
        assert of_services == of_monolith


def test_every_problem_of_the_page_is_met_by_some_case(services_side: Heard) -> None:
    met = {
        exchange.body["code"]
        for case in CASES
        for exchange in services_side.of(case)
        if exchange.status >= 400 and isinstance(exchange.body, dict)
    }
    assert set(PROBLEMS) <= met
