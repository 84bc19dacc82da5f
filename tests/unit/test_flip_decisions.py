"""What a flip may do: moves, weights, gates; and what people are told to do next."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.bucketing import parse_weight
from strangler_proxy.core.decision import Facts, Reason, decide
from strangler_proxy.core.errors import BadWeight, FlipRefused, GateRefused, StageSkipped, UnknownName
from strangler_proxy.core.explain import explain
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import (
    REPORT_LIMIT_S,
    Stream,
    needs_stream,
    next_commands,
    parse_stage,
    percent,
    plan_flip,
)
from strangler_proxy.core.route import Cluster, Endpoint, Route
from strangler_proxy.core.stage import STAGE_TABLE, Move, Origin, Stage
from strangler_proxy.core.table import RoutingTable

FIT = Stream(wanted=True, mode="live", source=Origin.MONOLITH, lag_s=0.2, stuck=0, age_s=0.5)
BACK = dataclasses.replace(FIT, source=Origin.EXTRACTED)

STAGES = st.sampled_from(list(Stage))
WEIGHTS = st.none() | st.integers(-1, 10_001)


def flag(stage: Stage, *, weight: int = 0, owns_data: bool = True) -> Flag:
    return Flag(key="f", stage=stage, weight=weight, owns_data=owns_data, owner=STAGE_TABLE[stage].writer)


@given(STAGES, STAGES, WEIGHTS, st.booleans(), st.integers(0, 10_000))
def test_a_flip_that_may_be_done_skips_nothing_and_ends_with_a_weight_that_fits(
    current: Stage, wanted: Stage, weight: int | None, owns_data: bool, now: int
) -> None:
    before = flag(current, weight=now if current is Stage.CANARY else 0, owns_data=owns_data)
    stream = dataclasses.replace(FIT, source=before.owner)
    try:
        plan = plan_flip(before, wanted, weight, stream)
    except FlipRefused:
        skips = wanted.position > current.position + 1
        final = wanted is not current and Stage.RETIRED in (wanted, current)
        bad = weight is not None and not (0 <= weight <= 10_000 and (wanted is Stage.CANARY or weight == 0))
        assert skips or final or bad
        return
    assert plan.stage is wanted
    assert wanted.position <= current.position + 1
    assert 0 <= plan.weight <= 10_000
    assert plan.weight == 0 or wanted is Stage.CANARY
    assert weight is None or plan.weight == weight
    moves_writer = owns_data and STAGE_TABLE[current].writer is not STAGE_TABLE[wanted].writer
    assert (plan.move is Move.CUTOVER) == moves_writer


@given(STAGES, st.integers(0, 10_000), st.integers(0, 10_000))
def test_only_a_flip_that_sends_more_to_the_other_side_needs_its_rows(stage: Stage, now: int, then: int) -> None:
    before = flag(Stage.CANARY, weight=now)
    plan = plan_flip(before, Stage.CANARY, then, FIT)
    assert needs_stream(before, plan) == (then > now)
    assert not needs_stream(flag(Stage.SHADOW), plan_flip(flag(Stage.SHADOW), Stage.MONOLITH, None, FIT))


@given(st.integers(0, 10_000))
def test_every_weight_can_be_written_and_read_as_a_percentage(weight: int) -> None:
    assert parse_weight(percent(weight)) == weight == parse_weight(str(weight))


@pytest.mark.parametrize("text", ["101%", "-1%", "10001", "-5", "lots", "0.001%", "nan", "inf%", ""])
def test_a_weight_outside_of_its_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="weight"):
        parse_weight(text)


def test_a_weight_is_kept_within_canary_and_begins_at_nothing() -> None:
    assert plan_flip(flag(Stage.CANARY, weight=300), Stage.CANARY, None, FIT).weight == 300
    assert plan_flip(flag(Stage.SHADOW), Stage.CANARY, None, FIT).weight == 0
    assert plan_flip(flag(Stage.CANARY, weight=300), Stage.SHADOW, None, FIT).weight == 0


@pytest.mark.parametrize(("stage", "weight"), [(Stage.CANARY, 10_001), (Stage.CANARY, -1), (Stage.SHADOW, 5)])
def test_a_weight_that_does_not_fit_is_a_usage_error(stage: Stage, weight: int) -> None:
    with pytest.raises(BadWeight) as caught:
        plan_flip(flag(Stage.SHADOW), stage, weight, FIT)
    assert caught.value.exit_code == 2
    assert caught.value.next_command is not None


def test_a_skipped_stage_names_the_one_in_between() -> None:
    with pytest.raises(StageSkipped, match=r"canary would skip a stage, next is shadow") as caught:
        plan_flip(flag(Stage.MONOLITH), Stage.CANARY, None, FIT)
    assert caught.value.next_command == "strangler flip f shadow"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("wanted", [Stage.MONOLITH, Stage.EXTRACTED])
def test_nothing_leads_out_of_retired(wanted: Stage) -> None:
    with pytest.raises(StageSkipped, match="retired"):
        plan_flip(flag(Stage.RETIRED), wanted, None, FIT)


def test_a_flip_does_not_retire() -> None:
    with pytest.raises(StageSkipped, match="a verb of its own"):
        plan_flip(flag(Stage.EXTRACTED), Stage.RETIRED, None, BACK)


def test_every_gate_that_is_not_met_is_told_at_once() -> None:
    stream = Stream(wanted=True, mode="catch-up", source=Origin.EXTRACTED, lag_s=3.25, stuck=2, age_s=1, error="boom")
    with pytest.raises(GateRefused) as caught:
        plan_flip(flag(Stage.SHADOW), Stage.CANARY, 100, stream, ["operation 7 (cutover, running, by ada)"])
    assert caught.value.message.split("\n") == [
        'flag "f" cannot go to canary now:',
        "- operation 7 (cutover, running, by ada) is not over yet",
        "- the stream reads extracted, the owner is monolith",
        '- stream mode is "catch-up", needed is "live"',
        "- lag is 3.25 s, needed is less than 1 s",
        "- 2 stuck keys, needed are 0",
        "- the stream failed last with: boom",
    ]
    assert caught.value.next_command == "strangler watch"


@pytest.mark.parametrize(
    ("stream", "says", "following"),
    [
        (Stream(), "never started", "strangler sync start f"),
        (Stream(wanted=True), "no worker has taken up", "strangler sync status f"),
        (dataclasses.replace(FIT, age_s=REPORT_LIMIT_S + 1), "no worker has reported", "strangler sync status f"),
        (dataclasses.replace(FIT, lag_s=10.0), "lag is 10.00 s", "strangler sync status f"),
        (dataclasses.replace(FIT, lag_s=None), "lag is not known", "strangler sync status f"),
    ],
)
def test_a_stream_that_is_not_fit_is_told_with_the_next_command(stream: Stream, says: str, following: str) -> None:
    for stage in (Stage.SHADOW, Stage.CANARY):
        with pytest.raises(GateRefused, match=says) as caught:
            plan_flip(flag(stage), list(Stage)[stage.position + 1], None, stream)
        assert caught.value.next_command == following


def test_a_moment_of_lag_keeps_reads_back_but_is_waited_for_by_a_cutover() -> None:
    behind = dataclasses.replace(FIT, lag_s=1.0)
    assert plan_flip(flag(Stage.CANARY), Stage.EXTRACTED, None, behind).move is Move.CUTOVER
    with pytest.raises(GateRefused, match=r"lag is 1\.00 s"):
        plan_flip(flag(Stage.SHADOW), Stage.CANARY, None, behind)


def test_stuck_keys_do_not_keep_a_flag_from_shadow() -> None:
    stuck = dataclasses.replace(FIT, stuck=3)
    assert plan_flip(flag(Stage.MONOLITH), Stage.SHADOW, None, stuck).stage is Stage.SHADOW
    with pytest.raises(GateRefused, match="3 stuck keys"):
        plan_flip(flag(Stage.SHADOW), Stage.CANARY, None, stuck)


def test_a_flag_without_data_asks_for_no_stream() -> None:
    assert plan_flip(flag(Stage.CANARY, owns_data=False), Stage.EXTRACTED, None, Stream()).move is Move.FLIP


def test_going_back_from_canary_is_never_gated() -> None:
    assert plan_flip(flag(Stage.CANARY, weight=9_000), Stage.MONOLITH, None, Stream()).stage is Stage.MONOLITH


def test_an_unknown_stage_is_told_with_all_of_them() -> None:
    with pytest.raises(UnknownName, match="monolith, shadow, canary, extracted, retired"):
        parse_stage("beta")


@given(STAGES, st.integers(0, 10_000), st.booleans())
def test_what_people_are_told_next_is_something_that_exists_and_can_be_done(
    stage: Stage, weight: int, wanted: bool
) -> None:
    before = flag(stage, weight=weight if stage is Stage.CANARY else 0)
    for command in next_commands(before, wanted=wanted):
        words = command.split()
        if words[1] == "flip":
            given_weight = parse_weight(words[5]) if len(words) > 4 else None
            plan = plan_flip(before, Stage(words[3]), given_weight, dataclasses.replace(FIT, source=before.owner))
            assert plan.changes(before)


@given(
    st.sampled_from(["GET", "POST", "HEAD", "BREW"]),
    STAGES,
    st.integers(0, 9_999),
    st.integers(0, 10_000),
    st.booleans(),
    st.booleans(),
    st.none() | st.sampled_from(list(Origin)),
    st.booleans(),
    st.sampled_from(["", "ann", "bob"]),
)
def test_the_explanation_names_the_step_that_decided(
    method: str,
    stage: Stage,
    bucket: int,
    weight: int,
    owns_data: bool,
    killed: bool,
    override: Origin | None,
    own_write: bool,
    key: str,
) -> None:
    one = dataclasses.replace(
        flag(stage, weight=weight, owns_data=owns_data), allow=frozenset({"ann"}), deny=frozenset({"bob"})
    )
    cluster = Cluster(name="c", endpoints=(Endpoint(host="h", port=1),))
    table = RoutingTable.compile(
        revision=1,
        flags=[one],
        routes=[Route(name="r", flag="f", path="/**", clusters=dict.fromkeys(Origin, "c"))],
        clusters=[cluster],
        default_cluster="c",
    )
    found = table.match(method, "", "/x", {}, {})
    assert found is not None
    facts = Facts(
        method=method, bucket=bucket, targeting_key=key, killed=killed, override=override, own_write=own_write
    )
    steps = explain(found, facts)
    (deciding,) = [step for step in steps if step.decided]
    assert deciding == next(step for step in steps if step.applies)
    if decide(found, facts).reason is Reason.BUCKET:
        assert deciding.name == "bucket"


def test_an_old_error_of_a_stream_that_is_fit_again_is_no_obstacle() -> None:
    healed = dataclasses.replace(FIT, error="the connection was lost")
    assert plan_flip(flag(Stage.SHADOW), Stage.CANARY, 5, healed).weight == 5
