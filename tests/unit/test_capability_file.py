"""Capability files: what they declare, and every mistake with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from strangler_proxy.core.balance import Balance
from strangler_proxy.core.breaker import BreakerPolicy
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import OnDelete
from strangler_proxy.core.outlier import OutlierPolicy
from strangler_proxy.core.probe import ProbePolicy
from strangler_proxy.core.rate import Rate
from strangler_proxy.core.route import Access, Cluster, Endpoint, Predicate
from strangler_proxy.core.stage import Origin
from strangler_proxy.plan import SourceFile, load_plans, parse_capability, read_files
from tests.servers import ROOT

PLANS = ROOT / "migrations_plan"

GOOD = """\
[capability]
key = "things"
monolith = "old"
extracted = "new"
mirror_sample = "10%"
allow = ["ada"]

[clusters.old]
endpoints = ["127.0.0.1:1", "[::1]:2"]
[clusters.new]
endpoints = ["${NEW_ENDPOINT:-127.0.0.1:3}"]

[routes.read]
path = "/things/{id}"
methods = ["GET"]
headers = { X-Beta = "1", X-Any = true }
timeouts = { first_byte_s = 5 }
access = "bearer"
retries = 0
"""


def problems_of(text: str, name: str = "plans/things.toml", **environment: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parse_capability(text, name, environment)
    return list(caught.value.problems)


def test_a_file_becomes_a_capability() -> None:
    found = parse_capability(GOOD, "plans/things.toml", {})
    (route,) = found.routes
    assert (found.key, found.file_name, found.salt, found.mirror_sample) == ("things", "things.toml", "things", 1000)
    assert found.allow == {"ada"}
    assert not found.owns_data
    assert route.clusters == {Origin.MONOLITH: "old", Origin.EXTRACTED: "new"}
    assert route.headers == (Predicate(name="X-Beta", value="1"), Predicate(name="X-Any"))
    assert (route.timeouts.first_byte_s, route.timeouts.total_s) == (5.0, 300.0)
    assert (route.access, route.retries, route.flag) == (Access.BEARER, 0, "things")
    assert [str(e) for e in found.clusters[0].endpoints] == ["127.0.0.1:1", "::1:2"]


@pytest.mark.parametrize(
    ("environment", "expected"), [({}, 3), ({"NEW_ENDPOINT": ""}, 3), ({"NEW_ENDPOINT": "127.0.0.1:4"}, 4)]
)
def test_an_endpoint_comes_from_the_environment_or_its_default(environment: dict[str, str], expected: int) -> None:
    found = parse_capability(GOOD, "things.toml", environment)
    assert found.clusters[1].endpoints == (Endpoint(host="127.0.0.1", port=expected),)


def test_all_problems_are_told_at_once_each_with_its_line() -> None:
    text = """\
[capability]
key = "other"
salt = 3
colour = "red"

[clusters.old]
endpoints = ["http://x", "${NOWHERE}"]

[routes.read]
path = "/a"
method = ["GET"]
monolith = "old"
extracted = "old"
access = "secret"
timeouts = { connect_s = 0 }
retries = 99

[routes.list]
"""
    assert problems_of(text) == [
        'plans/things.toml:2: capability: key "other" is not the file\'s name "things"',
        "plans/things.toml:3: capability: salt must be text, got 3",
        'plans/things.toml:4: capability: unknown key "colour"; known are allow, deny, extracted, fallback_safe, '
        "key, mirror_sample, monolith, salt",
        'plans/things.toml:7: cluster "old": endpoint "http://x" is not HOST:PORT',
        'plans/things.toml:7: cluster "old": environment variable NOWHERE is not set, and has no default',
        'plans/things.toml:11: route "read": unknown key "method"; did you mean "methods"?',
        'plans/things.toml:14: route "read": access "secret" is none of public, bearer, closed',
        'plans/things.toml:15: route "read", timeouts: connect_s 0 is outside 0 < seconds <= 86400',
        'plans/things.toml:16: route "read": retries 99 is outside 0..3',
        'plans/things.toml:18: route "list": "extracted" is missing',
        'plans/things.toml:18: route "list": "monolith" is missing',
        'plans/things.toml:18: route "list": "path" is missing',
    ]


def test_the_manifest_is_checked_column_by_column() -> None:
    text = GOOD + (
        """
[data]
monolith = "one"
extracted = "ONE"
idempotency_table = "nobody"

[[data.tables]]
monolith = "t"
key = ["id", "missing"]
columns = ["id", "amount", "bad%name"]
money = ["total"]
sequence = "number"
soft_references = [ { column = "who", references = "user", on_delete = "cascade" } ]

[[data.tables]]
monolith = "t"
extracted = "u"
columns = { a = "x", b = "x" }
key = []
money_by = ["a"]
"""
    )
    assert problems_of(text) == [
        "plans/things.toml:23: data: both sides name the same database",
        'plans/things.toml:24: data: idempotency_table "nobody" is none of the tables',
        'plans/things.toml:28: data table "t": key names the column "missing", which is not in columns',
        'plans/things.toml:29: data table "t": "bad%name" is not a column name',
        'plans/things.toml:30: data table "t": money names the column "total", which is not in columns',
        'plans/things.toml:31: data table "t": sequence names the column "number", which is not in columns',
        'plans/things.toml:32: soft reference "who": names the column "who", which is not in columns',
        'plans/things.toml:32: soft reference "who": on_delete "cascade" is none of refuse, tombstone, event',
        'plans/things.toml:32: soft reference "who": references "user" is not TABLE.COLUMN of the monolith',
        'plans/things.toml:35: data table "t" is declared twice on the side of monolith',
        'plans/things.toml:37: data table "t": two columns become "x"',
        'plans/things.toml:38: data table "t": key is empty: a row without a key cannot be followed',
        'plans/things.toml:39: data table "t": money_by without money: nothing to total',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[capability\n", "plans/things.toml:1: not TOML:"),
        ("a = 1\n\nb = [1,\n", "plans/things.toml:3: not TOML:"),
        ("a = 1\na = 2\n", "plans/things.toml:2: not TOML:"),
        ("", "plans/things.toml:1: no [routes.NAME]: a capability has at least one route"),
        ("routes = 3\n", "plans/things.toml:1: file: routes must be a table, got 3"),
    ],
)
def test_a_broken_document_is_told_with_its_line(text: str, expected: str) -> None:
    assert problems_of(text)[0].startswith(expected)


def test_all_is_no_name_of_a_flag() -> None:
    assert 'a flag cannot be called "all"' in problems_of(GOOD.replace('"things"', '"all"'), "all.toml")[0]


def plans_problems(*files: tuple[str, str]) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_plans([SourceFile(name=name, text=text) for name, text in files], {})
    return list(caught.value.problems)


def test_a_route_that_shadows_another_and_an_unknown_cluster_are_told_where_they_stand() -> None:
    plain = GOOD.replace('headers = { X-Beta = "1", X-Any = true }\n', "")
    other = '[routes.again]\npath = "/things/{number}"\nmonolith = "old"\nextracted = "nowhere"\n'
    assert plans_problems(("p/things.toml", plain), ("p/other.toml", other)) == [
        'p/other.toml:1: route "again" names the unknown cluster "nowhere" for extracted',
        'p/other.toml:1: route "again" and route "read" match the same requests (/things/{number}): '
        "give them different methods, paths or predicates",
    ]


def test_a_name_that_two_files_declare_is_told() -> None:
    copy = GOOD.replace('key = "things"', 'key = "copy"').replace("/things/", "/copies/")
    assert plans_problems(("p/things.toml", GOOD), ("p/copy.toml", copy)) == [
        'p/copy.toml:8: cluster "old" is declared in p/things.toml already',
        'p/copy.toml:10: cluster "new" is declared in p/things.toml already',
        'p/copy.toml:13: route "read" is declared in p/things.toml already',
    ]


def test_a_default_cluster_that_nobody_declares_is_told() -> None:
    default = '\n[default]\ncluster = "nobody"\n'
    assert plans_problems(("p/_default.toml", default), ("p/things.toml", GOOD)) == [
        'p/_default.toml:3: default cluster "nobody" is not declared'
    ]


def test_the_plans_of_the_example_cover_what_its_api_page_says() -> None:
    plans = load_plans(read_files([PLANS]), {})
    auth, payments = plans.capabilities
    assert (auth.key, payments.key, plans.default_cluster) == ("auth", "payments", "monolith")
    assert auth.manifest is not None
    assert payments.manifest is not None
    page = (ROOT / "docs/reference/http-api.md").read_text()
    for capability in (auth, payments):
        assert capability.manifest is not None
        for table in capability.manifest.tables:
            assert f"| `{table.monolith}` |" in page
            assert f"| `{table.extracted}` ({capability.key}) |" in page
    intent = payments.manifest.tables[0]
    assert intent.column_names(Origin.EXTRACTED)[1:3] == ("customer_id", "order_ref")
    assert {each.on_delete for each in intent.soft_references} == {OnDelete.REFUSE}
    assert payments.manifest.tables[2].key_names(Origin.EXTRACTED) == ("customer_id", "key")
    assert payments.manifest.idempotency_table == "payments_idempotencykey"


def test_paths_that_cannot_be_read_are_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b'a = 1\nb = "\xff"\n')
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DeclarationError) as caught:
        read_files([tmp_path / "bad.toml", tmp_path / "gone.toml", empty])
    assert [problem.removeprefix(str(tmp_path)) for problem in caught.value.problems] == [
        "/empty: no capability file (*.toml) in this folder",
        "/bad.toml:2: not UTF-8",
        "/gone.toml: cannot be read: No such file or directory",
    ]


def test_a_single_file_brings_the_default_beside_it() -> None:
    names = [Path(file.name).name for file in read_files([PLANS / "auth.toml"])]
    assert names == ["_default.toml", "auth.toml"]


POLICIES = """
[clusters.many]
endpoints = ["127.0.0.1:1", "127.0.0.1:2"]
balance = "round-robin"
max_pending = 50
slow_start_s = 0
outlier = { failures = 2, eject_s = 1, longest_s = 10, share = 34 }
probe = { path = "/healthz?deep=1", interval_s = 0.5, timeout_s = 0.2, unwell = 1, well = 4 }

[routes.write]
path = "/things"
extracted = "many"
breaker = { failures = 3, share = 20, window_s = 4, open_s = 0.5, trials = 2 }
rate = { per_s = 2.5, burst = 9 }
"""


def test_policies_of_clusters_and_routes() -> None:
    found = parse_capability(GOOD + POLICIES, "things.toml", {})
    many = found.clusters[2]
    assert (many.balance, many.max_pending, many.slow_start_s) == (Balance.ROUND_ROBIN, 50, 0.0)
    assert many.outlier == OutlierPolicy(failures=2, eject_s=1.0, longest_s=10.0, share=34)
    assert many.probe == ProbePolicy(path="/healthz?deep=1", interval_s=0.5, timeout_s=0.2, unwell=1, well=4)
    route = found.routes[1]
    assert route.breaker == BreakerPolicy(failures=3, share=20, window_s=4.0, open_s=0.5, trials=2)
    assert route.rate == Rate(per_s=2.5, burst=9)


def test_what_is_not_written_is_usual_and_safe() -> None:
    found = parse_capability(GOOD, "things.toml", {})
    assert found.clusters[0] == Cluster(name="old", endpoints=found.clusters[0].endpoints)
    (route,) = found.routes
    assert (route.breaker, route.rate, route.idempotency_key) == (BreakerPolicy(), None, False)


def test_a_rate_without_a_burst_allows_a_second_of_it() -> None:
    found = parse_capability(GOOD + "rate = { per_s = 4 }\n", "things.toml", {})
    assert found.routes[0].rate == Rate(per_s=4.0, burst=4)


def test_policies_that_make_no_sense_are_told_with_their_lines() -> None:
    text = (
        GOOD
        + """
[clusters.many]
endpoints = ["127.0.0.1:1"]
balance = "random"
max_pending = 0
slow_start_s = -1
outlier = { eject_s = 100, longest_s = 10, share = 100 }
probe = { interval_s = 0 }

[routes.write]
path = "/things"
breaker = { failure = 3, share = 0 }
rate = { burst = 9 }
idempotency_key = true
"""
    )
    assert [each.partition(": ")[2] for each in problems_of(text)] == [
        'cluster "many": balance "random" is none of least-pending, round-robin',
        'cluster "many": max_pending 0 is outside 1..1000000',
        'cluster "many": slow_start_s -1 is outside 0 < seconds <= 3600',
        'cluster "many", outlier: longest_s 10 is less than eject_s 100',
        'cluster "many", outlier: share 100 is outside 0..99',
        'cluster "many", probe: "path" is missing',
        'cluster "many", probe: interval_s 0 is outside 0 < seconds <= 3600',
        'route "write", breaker: share 0 is outside 1..100',
        'route "write", breaker: unknown key "failure"; did you mean "failures"?',
        'route "write", rate: per_s must be a number of requests a second, 0 < per_s <= 100000',
        'route "write": idempotency_key needs [data] with an idempotency_table: both sides have to keep the keys in '
        "one table that moves",
    ]
