"""What a judge counts, by which names, and that no secret is among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from strangler_proxy.core.difference import Kind
from strangler_proxy.core.observation import Failure
from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED, Answer, Side
from strangler_proxy.core.shadow_wire import TOO_LARGE, encode_effects
from strangler_proxy.core.tally import StratumTally
from strangler_proxy.shadow.alarm import OutOfTime
from tests.court import SETTINGS, Court
from tests.pairs import JSON_FIELDS, answer


def test_new_code_begins_anew_and_an_answer_without_a_version_does_not() -> None:
    court = Court()

    def bases() -> list[tuple[str, str]]:
        ledgers = court.judge.flags["shop"].ledgers
        return [(each.basis.control_version, each.basis.candidate_version) for each in ledgers]

    court.take(answer({}, version="m1"), answer({}, version="x1"))
    court.take(answer({}, version="m1"), answer(failure=Failure.RESET))
    court.take(answer({}), answer({}))
    assert bases() == [("m1", "x1")]
    court.take(answer({}, fields=(*JSON_FIELDS, (b"X-Code-Version", b"m1"))), answer({}, version="x2"))
    assert bases() == [("m1", "x1"), ("m1", "x2")]
    court.take(answer({}, version="m1"), answer({}, version="x1"))
    assert bases() == [("m1", "x2"), ("m1", "x1")]
    for number in range(200):
        court.take(answer({}, version=f"{number}"), answer({}))
    assert bases()[-1] == ("(many)", "x1")
    assert len({name for name, _ in bases()}) < 60


def test_requests_noted_before_any_pair_are_counted_with_its_versions_or_after_a_while_by_label() -> None:
    row = (("shop", "items", "GET", b"/items/1", False, 200, b"application/json", EQUAL), 2, 1, [5.0, 6.0] * 2)
    court = Court(settings=replace(SETTINGS, candidate_version="label"))
    court.judge.notes(100.0, [row], [(("shop", "queue_full"), 3)])
    court.judge.place_overdue(101.0)
    assert court.judge.has_unplaced
    court.take(answer({}), answer({}, version="x1"))
    court.judge.place_overdue(101.0)
    tally = court.tally()
    assert (tally.basis.candidate_version, tally.eligible, tally.drops) == ("x1", 6, {"queue_full": 3})
    court = Court(settings=replace(SETTINGS, candidate_version="label"))
    court.judge.notes(100.0, [row], [])
    court.judge.place_overdue(111.0)
    assert court.tally().basis.candidate_version == "label"
    assert not court.judge.has_unplaced


def test_noted_requests_are_counted_by_what_became_of_them() -> None:
    court = Court()
    court.take(answer({}), answer({}))

    def noted(fate: str, status: int = 200) -> Any:
        return ("shop", "items", "GET", b"/items/1", False, status, b"application/json; x=y", fate), 3, 2, [5.0, 6.0]

    court.judge.notes(9.0, [noted(EQUAL), noted(NOT_SAMPLED), noted("queue_full"), noted("judge_down", 0)], [])
    tally, one = court.tally(), court.one()
    assert (tally.eligible, tally.mirrored, tally.drops) == (13, 7, {"queue_full": 3, "judge_down": 3})
    assert (one.requests, one.matched, one.ratio.total) == (10, 4, 3)


def test_templates_that_fold_take_their_strata_with_them() -> None:
    court = Court()
    ledger = None
    for number in range(40):
        slug = "-".join("abcdefghij"[int(digit)] * 3 for digit in f"{number:02}")
        court.take(answer({}), answer({}), target=f"/pages/{slug}".encode())
        ledger = court.judge.flags["shop"].current
    assert ledger is not None
    before = ledger.snapshot()
    ledger.fold(court.judge.flags["shop"].fold)
    after = ledger.snapshot()
    full = {key.path_template: one.matched for key, one in after.strata.items() if one.matched}
    assert full == {"/pages/{slug}": 40}
    gone = set(before.strata) - {key for key, one in after.strata.items() if one.matched}
    assert gone
    assert all(after.strata[key] == StratumTally() for key in gone)


def test_a_flood_of_strata_ends_in_one() -> None:
    court = Court()
    for number in range(3_100):
        key = ("shop", "", "GET", b"/a", False, 200, b"type/%d" % number, EQUAL)
        court.judge.notes(1.0, [(key, 1, 1, [1.0, 1.0])], [])
    court.judge.place_overdue(0.0, all_of_them=True)
    strata = court.tally().strata
    assert len(strata) == 3_001
    assert next(key.content_type for key in strata if key.path_template == "/**") == ""


SECRETS = ["4111111111111111", "hunter2horse", "ada@example.org", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123_-x"]


def test_no_secret_leaves_the_judge() -> None:
    card, password, mail, token = SECRETS
    fields = (*JSON_FIELDS, (b"Set-Cookie", f"sessionid={password}; Path=/".encode()))
    court = Court()

    def body(price: int) -> object:
        return {"card": card, "password": password, f"to {mail}": price, "deep": [{"jwt": token}]}

    court.take(
        answer(body(1), fields=fields),
        answer(
            {**body(2), "card": "4000056655665556"}, fields=(*JSON_FIELDS, (b"Set-Cookie", b"sessionid=x9x9x9x9x9"))
        ),
        target=f"/reset/x7k2p9q/{mail}?password={password}&c={card}".encode(),
        fields=((b"Authorization", f"Bearer {token}".encode()), (b"Cookie", f"sessionid={password}".encode())),
        body=json.dumps(body(1)).encode(),
    )
    court.later(lambda one, side: one.control if side is Side.CONTROL else one.candidate)
    court.judge.settle_all()
    tally = court.tally()
    said = json.dumps([[str(key), one.document()] for key, one in tally.strata.items()])
    said += json.dumps([each.document() for each in court.judge.samples])
    assert len(court.judge.samples) == 1
    assert [secret for secret in [*SECRETS, "4000056655665556", "x9x9x9x9x9", "x7k2p9q"] if secret in said] == []
    assert "/reset/{secret}/{email}" in said
    assert "[card:" in said
    assert any(one.differences for one in tally.strata.values())


def test_samples_are_bounded_and_what_is_replaced_is_forgotten() -> None:
    court = Court()
    for _ in range(200):
        court.take(answer({"a": 1}), answer({"a": 2}), method="POST")
    kept = {each.id for each in court.judge.samples} - set(court.judge.forgotten)
    assert len(kept) == 4
    assert court.one().differences["a", Kind.VALUE].sample in {each.id for each in court.judge.samples}


def test_effects_are_compared_and_those_that_cannot_be_read_are_never_matched() -> None:
    def with_effects(*effects: Any, raw: bytes = b"") -> Answer:
        return answer({}, effects=raw or ", ".join(encode_effects(effects)).encode())

    mail = {"kind": "mail", "detail": {"to": "x", "total": 1.10}}
    court = Court()
    court.take(with_effects(mail), with_effects(mail), method="POST")
    assert court.outcomes() == (1, 0, 0, 0)
    court.take(with_effects(mail), with_effects(mail, mail), method="POST")
    assert ("effect.mail", Kind.LENGTH) in court.one().differences
    for raw in (TOO_LARGE.encode(), b"1/1; AAAA", b"nonsense", b"2/2; x"):
        court.take(with_effects(mail), with_effects(raw=raw), method="POST")
    assert court.outcomes() == (1, 1, 0, 4)


def test_comparing_that_fails_or_takes_too_long_is_never_matched() -> None:
    def failing(error: Exception) -> Callable[[Callable[[], Any]], Any]:
        failures = iter([error])

        def run(call: Callable[[], Any]) -> Any:
            for failure in failures:
                raise failure
            return call()

        return run

    for error in (OutOfTime(), ZeroDivisionError("secret"), RecursionError(), MemoryError()):
        court = Court(limited=failing(error))
        court.take(answer({"a": 1}), answer(b'{"a": 1}'))
        assert court.outcomes() == (0, 0, 0, 1)
        assert sum(court.judge.facts[name] for name in ("failed", "cut_off")) == 1
        assert "secret" not in json.dumps([each.document() for each in court.judge.samples])
