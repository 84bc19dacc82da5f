"""What statements touch, who may read on, what a side's census amounts to, and that a tally is bounded."""

from __future__ import annotations

import datetime as dt

import pytest

from strangler_proxy.contrib.django.census_tally import MAX_PLACES, Seen, Tally, as_json
from strangler_proxy.core.census import Access, Counting, Kind, Mode, Movement, Place, Process
from strangler_proxy.core.census_report import Census, verdict
from strangler_proxy.core.census_statement import TableFinder
from strangler_proxy.core.stage import Origin

NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.UTC)
FINDER = TableFinder({"parcel": "parcel", "post.stamp": "stamp"})


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ('SELECT "parcel"."id" FROM "parcel" WHERE "parcel"."id" = %s', {"parcel": "read"}),
        ("select * from PUBLIC.Parcel p", {"parcel": "read"}),
        ('INSERT INTO "parcel" ("name") VALUES (%s) RETURNING "parcel"."id"', {"parcel": "write"}),
        ("UPDATE ONLY public.parcel SET name = 'x' FROM post.stamp s", {"parcel": "write", "stamp": "read"}),
        ("INSERT INTO archive SELECT * FROM parcel", {"parcel": "read"}),
        (
            'WITH gone AS (DELETE FROM "post"."stamp" RETURNING 1) SELECT * FROM parcel',
            {"stamp": "write", "parcel": "read"},
        ),
        ("MERGE INTO parcel USING stamp ON true WHEN MATCHED THEN DELETE", {"parcel": "write", "stamp": "read"}),
        ("SELECT * FROM parcel FOR UPDATE OF parcel", {"parcel": "read"}),
        ("INSERT INTO parcel VALUES (1) ON CONFLICT DO UPDATE SET a = 1", {"parcel": "write"}),
        ("TRUNCATE TABLE note, parcel", {"parcel": "write"}),
        ("COPY parcel (id) FROM STDIN", {"parcel": "write"}),
        ("COPY parcel TO STDOUT", {"parcel": "read"}),
        ("ALTER TABLE IF EXISTS parcel ADD x int", {"parcel": "write"}),
        ("DROP TABLE parcel", {"parcel": "write"}),
        ("SELECT 'parcel' -- parcel\n /* parcel */ FROM note", {}),
        ("SELECT * FROM parcel_type JOIN myparcel ON true", {}),
        ('SELECT "parcels" FROM note', {}),
        ("", {}),
    ],
)
def test_statements_touch_tables(statement: str, found: dict[str, str]) -> None:
    assert dict(FINDER.touched(statement)) == found


def test_a_long_statement_is_looked_at_too_and_not_kept() -> None:
    long = "INSERT INTO parcel VALUES " + ", ".join(["(1)"] * 5_000)
    assert FINDER.touched(long) == (("parcel", "write"),)
    assert FINDER._cached.cache_info().currsize <= 50


def test_a_hostile_statement_costs_no_more_than_its_length() -> None:
    for piece in ("'", "/*", "parcel ", "UPDATE ", 'UPDATE "', "COPY parcel "):
        FINDER.touched(piece * 20_000)  # a pattern that backtracks would take minutes


def a_place(access: Access, kind: Kind, name: str, *, application: str = "shop", place: str = "") -> Place:
    return Place(
        flag="post", table="parcel", access=access, kind=kind, name=name, place=place, application=application,
        count=1, refused=0, first_seen=NOW, last_seen=NOW,
    )  # fmt: skip


def side(*places: Place, **changes: object) -> Census:
    known: dict[str, object] = {
        "flag": "post", "side": Origin.MONOLITH, "owner": Origin.EXTRACTED, "hidden": 0, "stream_runs": False,
        "counting": Counting(mode=Mode.LOG, triggers=True, since=NOW), "since": NOW, "movements": (), "places": places,
        "processes": (
            Process(service="shop", host="h", pid=1, program="gunicorn", started_at=NOW, seen_at=NOW, lost=0),
        ),
    }  # fmt: skip
    return Census(**known | changes)  # type: ignore[arg-type]


def test_the_verdict_is_one_plain_sentence_where_all_is_known() -> None:
    writes, reads = Access.WRITE, Access.READ
    assert verdict(side()) == (
        "monolith: nobody wrote these tables since 2026-11-27 12:00:00 UTC; nobody was seen reading them",
    )
    found = side(
        a_place(writes, Kind.APPLIER, "sync", application="strangler stream"),
        a_place(reads, Kind.TASK, "books.close", place="books.py:9"),
        a_place(reads, Kind.VIEW, "shop /", place="views.py:3"),
        a_place(reads, Kind.SESSION, "ann", application="psql"),
        a_place(reads, Kind.SHELL, "shell"),
    )
    assert verdict(found) == (
        "monolith: nobody but the applier wrote these tables since 2026-11-27 12:00:00 UTC; 4 places still read them: "
        "task books.close (books.py:9), view shop / (views.py:3), session psql as ann and 1 more",
    )


def test_a_session_whose_code_is_known_is_not_a_second_place() -> None:
    found = side(
        a_place(Access.WRITE, Kind.VIEW, "shop /", place="views.py:3"),
        a_place(Access.WRITE, Kind.SESSION, "app"),
        a_place(Access.WRITE, Kind.SESSION, "app", application="other"),
    )
    assert "2 places wrote" in verdict(found)[0]


def test_what_mirrored_requests_read_is_nobody_s_need() -> None:
    said = verdict(side(a_place(Access.READ, Kind.MIRROR, "shop /")))
    assert "nobody was seen reading them" in said[0]
    assert "mirrored requests only" in said[1]


def test_the_verdict_says_what_it_does_not_cover() -> None:
    blind = verdict(side(counting=Counting(mode=Mode.OFF)))
    assert blind == (
        "monolith: nobody counts here, so nothing is known; strangler sync census post --mode log --side monolith",
    )
    lost = Process(service="shop", host="h", pid=1, program="p", started_at=NOW, seen_at=NOW, lost=7)
    said = "\n".join(verdict(side(counting=Counting(mode=Mode.LOG, since=NOW), processes=(lost,), hidden=3)))
    for part in ("--triggers only", "7 counted statements never arrived", "3 sessions hid what they run"):
        assert part in said
    assert "no Django process has reported" in "\n".join(verdict(side(processes=())))


def test_counters_that_moved_with_nobody_seen_are_unexplained_unless_the_stream_runs() -> None:
    moved = Movement(table="parcel", since=NOW, scans=5, inserted=0, updated=2, deleted=0)
    assert side(movements=(moved,)).unexplained(moved) == ("reads", "writes")
    assert side(a_place(Access.READ, Kind.TASK, "x")).unexplained(moved) == ("writes",)
    assert side(stream_runs=True).unexplained(moved) == ()
    assert "unexplained reads of parcel: 5 scans since" in verdict(side(movements=(moved,)))[1]


def test_a_tally_is_bounded_and_loses_no_count() -> None:
    tally = Tally()
    for number in range(MAX_PLACES + 100):
        assert tally.note(Seen("post", "parcel", "read", "task", f"task {number}", "x.py:1"))
    assert not tally.note(Seen("post", "parcel", "read", "task", "task 1", "x.py:1"))
    taken = tally.take()
    assert len(taken) == MAX_PLACES + 1
    tally.put_back(taken)
    tally.note(Seen("post", "parcel", "read", "task", "task 1", "x.py:1"))
    told = as_json(tally.take())
    assert sum(each["count"] for each in told) == MAX_PLACES + 102
    assert next(each["count"] for each in told if each["name"] == "(more than are counted)") == 100
    assert len(tally) == 0
