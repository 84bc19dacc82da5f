"""What has to be true before a flag retires, and the migration that goes with it: pure decisions."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import Stream
from strangler_proxy.core.retire import Condition, condition_from, conditions_of_flag, planned, steps_of, unmet
from strangler_proxy.core.retire_migration import OldModel, check_references, children_first, migration_of
from strangler_proxy.core.route import Route
from strangler_proxy.core.stage import Origin, Stage
from strangler_proxy.plan import SourceFile, load_plans
from strangler_proxy.store.documents import manifest_document, manifest_from

NOW = dt.datetime(2026, 11, 27, 3, tzinfo=dt.UTC)
FLAG = Flag(
    key="bills",
    stage=Stage.EXTRACTED,
    owns_data=True,
    owner=Origin.EXTRACTED,
    owner_epoch=2,
    changed_at=NOW - dt.timedelta(days=20),
)
FIT = Stream(wanted=True, mode="live", source=Origin.EXTRACTED, lag_s=0.1, verified=True, age_s=0.5)
ROUTE = Route(name="bills", flag="bills", path="/bills", clusters={Origin.MONOLITH: "old", Origin.EXTRACTED: "new"})


def missing(flag: Flag = FLAG, stream: Stream | None = FIT, *, route: Route = ROUTE, days: float = 14) -> str:
    found = conditions_of_flag(flag, stream, [route], [], after_days=days, now=NOW)
    return "\n".join(unmet(found))


def test_a_flag_that_is_ready_has_nothing_missing() -> None:
    assert missing() == ""


def test_everything_that_is_missing_is_told_at_once_with_a_command() -> None:
    early = dataclasses.replace(
        FLAG, stage=Stage.CANARY, owner=Origin.MONOLITH, deny=frozenset({"ada"}), changed_at=NOW
    )
    found = conditions_of_flag(early, FIT, [ROUTE], ["operation 3 (cutover)"], after_days=14, now=NOW)
    said = unmet(found)
    assert [text.partition(" (next")[0] for text in said] == [
        "the stage is canary, the owner is monolith",
        "extracted does not serve yet, needed are 14 days of it",
        "operation 3 (cutover) is not over yet",
        "1 targeting keys on the deny list are served by the monolith",
    ]
    assert all("(next: strangler" in text for text in said)


@pytest.mark.parametrize(
    ("flag", "stream", "says"),
    [
        (dataclasses.replace(FLAG, changed_at=NOW - dt.timedelta(days=13)), FIT, "serves for 13.0 days, needed are 14"),
        (dataclasses.replace(FLAG, changed_at=None), FIT, "serves for 0.0 days"),
        (FLAG, dataclasses.replace(FIT, lag_s=9.0), "lag is 9.00 s"),
        (FLAG, dataclasses.replace(FIT, stuck=2), "2 stuck keys"),
        (FLAG, dataclasses.replace(FIT, verified=False), "found differences"),
        (FLAG, Stream(), "the stream was never started (next: strangler sync start bills)"),
    ],
)
def test_one_thing_alone_refuses(flag: Flag, stream: Stream, says: str) -> None:
    assert says in missing(flag, stream)
    assert len(missing(flag, stream).splitlines()) == 1


def test_a_route_that_stays_with_the_monolith_is_named() -> None:
    route = dataclasses.replace(ROUTE, clusters={Origin.MONOLITH: "old", Origin.EXTRACTED: "old"})
    assert 'route "bills" goes to cluster "old" at every stage' in missing(route=route)


def test_a_flag_without_data_needs_time_only() -> None:
    bare = dataclasses.replace(FLAG, owns_data=False, owner=Origin.MONOLITH)
    assert missing(bare, None) == ""
    assert "needed are 30" in missing(bare, None, days=30)


def test_conditions_survive_the_way_to_a_worker() -> None:
    condition = Condition(met=False, says="no", command="strangler x")
    assert condition_from(condition.to_json()) == condition
    with pytest.raises(DeclarationError, match="cannot be read"):
        condition_from({"says": "no"})


def test_the_plan_has_every_step_and_a_kept_copy_few() -> None:
    assert [name for name, _ in planned(keep_copy=False, dump="/d")] == list(steps_of(keep_copy=False))
    assert steps_of(keep_copy=True) == ("verify", "route")
    assert any("/d" in says for _, says in planned(keep_copy=False, dump="/d"))


PLAN = """
[capability]
key = "bills"
monolith = "old"
extracted = "new"
[clusters.old]
endpoints = ["127.0.0.1:1"]
[clusters.new]
endpoints = ["127.0.0.1:2"]
[routes.bills]
path = "/bills"
[data]
monolith = "m"
extracted = "e"
{more}
[[data.tables]]
monolith = "bill"
key = ["id"]
columns = ["id"]
"""


@pytest.mark.parametrize(
    ("more", "days", "kept"), [("", 14, False), ("retire_after_days = 0\nkeep_copy = true", 0, True)]
)
def test_the_manifest_says_when_and_whether_the_copy_stays(more: str, days: int, kept: bool) -> None:
    plans = load_plans([SourceFile(name="bills.toml", text=PLAN.format(more=more))], {})
    manifest = plans.capabilities[0].manifest
    assert manifest is not None
    assert (manifest.retire_after_days, manifest.keep_copy) == (days, kept)
    assert manifest_from(manifest_document(manifest)) == manifest
    older = {key: value for key, value in manifest_document(manifest).items() if key not in ("keep_copy",)}
    assert manifest_from(older).keep_copy is False


def test_days_that_make_no_sense_are_refused_with_their_line() -> None:
    with pytest.raises(DeclarationError, match="retire_after_days -1 is outside"):
        load_plans([SourceFile(name="bills.toml", text=PLAN.format(more="retire_after_days = -1"))], {})


BILL = OldModel(label="shop.Bill", table="shop_bill", references=("auth.User",))
LINE = OldModel(label="shop.Line", table="shop_line", references=("shop.Bill",))
PARCEL = OldModel(label="post.Parcel", table="post_parcel", references=("shop.Bill",))


def test_children_leave_the_state_before_what_they_refer_to() -> None:
    assert children_first([BILL, LINE]) == [LINE, BILL]
    made = migration_of("bills", "shop", [BILL, LINE, PARCEL], previous="0007_more", keep_models=False)
    assert made.name == "0008_retire_bills"
    assert made.text.index('DeleteModel(name="Line")') < made.text.index('DeleteModel(name="Bill")')
    assert 'dependencies = [("shop", "0007_more")]' in made.text
    assert "Parcel" not in made.text
    compile(made.text, "migration", "exec")


def test_models_that_others_refer_to_cannot_leave_the_state() -> None:
    with pytest.raises(DeclarationError, match=r"post\.Parcel has a foreign key to shop\.Bill"):
        check_references([BILL, LINE], [BILL, LINE, PARCEL])
    check_references([BILL, LINE], [BILL, LINE])
