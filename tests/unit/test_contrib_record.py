"""What a request's record says of its writes, and how statements are read."""

from __future__ import annotations

import doctest

import pytest

from strangler_proxy.contrib import context, ownership, record
from strangler_proxy.contrib.messaging import message
from strangler_proxy.contrib.ownership import OwnershipRecord
from strangler_proxy.contrib.record import FenceRecord, effect_happened, fence_in, may_write, recording, resumable
from strangler_proxy.contrib.refusal import fenced
from strangler_proxy.core import fence
from strangler_proxy.core.fence import FenceAnswer, Replay


class Refused(Exception):
    """As psycopg raises it."""

    sqlstate = "MF001"

    class diag:  # noqa: N801  (psycopg's name)
        """Its diagnostics."""

        message_detail = '{"flag": "parcels", "table": "parcel"}'


@pytest.mark.parametrize("module", [record, ownership, context, message, fence])
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried.attempted
    assert not tried.failed


def test_nothing_committed_is_safe_something_is_not() -> None:
    with recording(FenceRecord()) as facts:
        facts.meet("parcels", "parcel")
        assert facts.replay() is Replay.SAFE
    with recording(FenceRecord()) as facts:
        effect_happened()
        facts.meet("parcels", "parcel")
        assert facts.replay() is Replay.NO


def test_within_resumable_the_owner_goes_on_and_after_it_not() -> None:
    with recording(FenceRecord()) as facts:
        facts.commit("default")
        with resumable():
            facts.meet("parcels", "parcel")
        assert facts.replay() is Replay.RESUME
    with recording(FenceRecord()) as facts:
        facts.commit("default")
        with resumable():
            pass
        facts.meet("parcels", "parcel")
        assert facts.replay() is Replay.NO


def test_the_first_fence_counts() -> None:
    facts = FenceRecord()
    facts.meet("parcels", "parcel")
    facts.meet("letters", "letter")
    assert facts.met is not None
    assert facts.met.flag == "parcels"


def test_a_fence_is_found_below_other_errors_and_in_no_other_error() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = Refused()
    assert fence_in(outer) == ("parcels", "parcel")
    assert fence_in(ValueError("MF001")) is None
    assert fence_in(None) is None


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("SELECT 1", False),
        ("  (select * from t for no key update)", False),
        ("INSERT INTO t VALUES (1)", True),
        ("WITH moved AS (DELETE FROM t RETURNING *) SELECT * FROM moved", True),
        ("SELECT * INTO copy FROM t", True),
        ("EXPLAIN ANALYZE DELETE FROM t", True),
        ("SELECT 'DELETE FROM t'", False),
        ("-- DELETE\nSELECT 1", False),
        ("COPY t FROM STDIN", True),
        ("COPY t TO STDOUT", False),
        ("COMMIT", False),
        ("TRUNCATE t", True),
        ("DO $$ BEGIN END $$", True),
    ],
)
def test_a_statement_is_told_from_a_write(sql: str, writes: bool) -> None:
    assert may_write(sql) is writes


def test_the_refusal_is_503_without_a_record_and_409_with_one() -> None:
    facts = FenceRecord()
    facts.meet("parcels", "parcel")
    assert fenced(facts, None).status == 503
    told = fenced(facts, OwnershipRecord("parcels", "monolith", "extracted", 4, False))
    assert told.status == 409
    assert FenceAnswer.parse(told.headers["X-Strangler-Fence"]) == FenceAnswer("parcels", 4, "extracted", Replay.SAFE)


def test_a_record_that_is_open_again_never_teaches_its_newest_epoch() -> None:
    for owner, is_open, epoch in (("monolith", True, 5), ("monolith", False, 6), ("extracted", True, 6)):
        assert OwnershipRecord("parcels", "monolith", owner, 6, is_open).fence(Replay.SAFE).epoch == epoch
