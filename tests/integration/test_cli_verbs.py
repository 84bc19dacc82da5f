"""The real command line against a real control plane: what it shows, what it refuses, and its exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store
from tests.integration.control_rig import PLANS, VIEWER, Proxy, Rig, control_rig, live_stream
from tests.servers import EmbeddedPostgres, create_database, drop_database, free_port


@pytest.fixture(scope="module")
def rig(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One control plane for this file, with the example's files applied and both streams fit."""
    url = create_database(postgres, "cli")
    with control_rig(url, tmp_path_factory.mktemp("cli")) as made:
        assert made.run("apply").code == 0
        yield made
    drop_database(postgres, url)


@pytest.fixture(autouse=True)
def at_monolith(rig: Rig) -> None:
    """Every test starts with both flags at monolith, and streams that are fit."""
    rig.back_to_monolith()


def test_apply_shows_the_difference_and_a_second_time_there_is_none(database: str, tmp_path: Path) -> None:
    with control_rig(database, tmp_path) as fresh:
        before = fresh.run("status")
        assert (before.code, "next: strangler apply" in before.err) == (0, True)
        dry = fresh.run("apply", "--dry-run")
        assert dry.code == 0
        assert '+ flag "auth" at monolith' in dry.out
        assert '+ route "payments-webhook" /api/payments/webhooks/card-processor' in dry.out
        assert fresh.run("flag", "list", "-o", "json").document["flags"] == []
        first = fresh.run("apply", "-o", "json", "--reason", "begin").document
        assert (first["changed"], first["revision"]) == (True, 1)
        again = fresh.run("apply")
        assert (again.code, again.out) == (0, "")
        assert "as declared already, revision 1" in again.err
        moved = fresh.run("apply", "--dry-run", SHOP_AUTH_ENDPOINT="10.0.0.9:80")
        assert '~ cluster "auth": endpoints 127.0.0.1:8002 -> 10.0.0.9:80' in moved.out
        one = fresh.run("apply", str(PLANS / "auth.toml"))
        assert "not in these files, left as they are: payments" in one.err


def test_apply_tells_every_mistake_with_file_and_line_and_writes_nothing(rig: Rig, tmp_path: Path) -> None:
    before = rig.run("flag", "list", "-o", "json").document
    (tmp_path / "things.toml").write_text(
        '[capability]\nmonolith = "m"\nextracted = "nowhere"\n[clusters.m]\nendpoints = ["h:1"]\n'
        '[routes.one]\npath = "/x/{a}"\n[routes.two]\npath = "/x/{b}"\n'
    )
    done = rig.run("apply", str(tmp_path), "-o", "json")
    assert done.code == 2
    place = tmp_path / "things.toml"
    assert done.document["error"]["problems"] == [
        f'{place}:6: route "one" names the unknown cluster "nowhere" for extracted',
        f'{place}:8: route "two" names the unknown cluster "nowhere" for extracted',
        f'{place}:8: route "two" and route "one" match the same requests (/x/{{b}}): '
        "give them different methods, paths or predicates",
    ]
    (tmp_path / "things.toml").write_text('[routes.one\npath = "/x"\n')
    done = rig.run("apply", str(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert f"error: {place}:1: not TOML: " in done.err
    assert rig.run("apply", str(tmp_path / "gone.toml")).code == 2
    assert rig.run("flag", "list", "-o", "json").document == before


def test_a_route_that_shadows_one_of_another_capability_in_the_table_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "things.toml").write_text(
        '[capability]\nmonolith = "m"\nextracted = "m"\n[clusters.m]\nendpoints = ["h:1"]\n'
        '[routes.mine]\npath = "/api/auth/me"\nmethods = ["GET"]\n'
    )
    for words in (["apply", str(tmp_path), "--dry-run"], ["apply", str(tmp_path)]):
        done = rig.run(*words)
        assert done.code == 2
        assert 'route "mine"' in done.err
        assert 'route "auth-me"' in done.err
    assert "things" not in [flag["key"] for flag in rig.run("flag", "list", "-o", "json").document["flags"]]


def test_a_flip_shows_start_state_current_state_and_the_next_command(rig: Rig) -> None:
    with Proxy(rig.database_url, "p1"):
        done = rig.run("flip", "auth", "shadow", "--reason", "have a look")
        assert done.code == 0
        assert "monolith -> shadow" in done.out
        assert "none -> 100% to extracted" in done.out
        assert re.search(r"acknowledged by 1 of 1 live proxies in \d+\.\d\d s", done.err)
        assert "next: strangler flip auth canary --weight 5%" in done.err
        done = rig.run("flip", "auth", "canary", "--weight", "25%", "-o", "json")
        assert done.document["before"]["stage"] == "shadow"
        assert done.document["after"]["weight"] == 2500
        assert done.document["acknowledged"]["complete"]
        status = rig.run("status")
        assert "canary 25%" in status.out
        assert "1/1" in status.out
        assert "no evidence yet" in " ".join(status.out.split())
        assert "live, lag 0.12 s" in status.out
        assert "\x1b[" not in status.out
    again = rig.run("flip", "auth", "canary", "--no-wait")
    assert again.code == 0
    assert "nothing was changed" in again.err
    shown = rig.run("flag", "show", "auth")
    assert "25% extracted / 75% monolith" in shown.out
    history = rig.run("flag", "history", "auth", "--limit", "2")
    assert "have a look" in history.out
    assert "stage shadow -> canary, weight 0 -> 2500" in history.out


BAD_INPUT = [
    (["flip", "nobody", "shadow"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["flip", "a/../b", "shadow"], 2, 'there is no flag "a/../b"', "strangler flag list"),
    (["flip", "auht", "shadow"], 2, 'did you mean "auth"?', "strangler flag list"),
    (["flip", "auth", "beta"], 2, "stages are monolith, shadow, canary, extracted, retired", "strangler flip --help"),
    (["flip", "auth", "canary"], 3, "canary would skip a stage, next is shadow", "strangler flip auth shadow"),
    (["flip", "auth", "retired"], 3, "would skip a stage", "strangler flip auth shadow"),
    (["flip", "auth", "canary", "-w", "100.5%"], 2, "outside 0 % .. 100 %", "strangler flip auth canary"),
    (["flip", "auth", "canary", "-w", "-1"], 2, "outside 0 % .. 100 %", "strangler flip auth canary"),
    (["flip", "auth", "canary", "-w", "some"], 2, "is not a number", "strangler flip auth canary"),
    (["flip", "auth", "shadow", "-w", "5%"], 2, "a weight counts at canary only", "strangler flip auth shadow"),
    (["flip", "auth", "shadow", "--if-revision", "0"], 4, "not 0: it was changed", "strangler status"),
    (["flag", "show", "nobody"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["flag", "history", "nobody"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["route", "show", "auth-mee"], 2, 'did you mean "auth-me"?', "strangler route list"),
    (["sync", "status", "nobody"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["sync", "start", "nobody"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["status", "nobody"], 2, 'there is no flag "nobody"', "strangler flag list"),
    (["why", "GET", "things/1"], 2, "neither a path nor a URL", "strangler why GET /things/1"),
]


@pytest.mark.parametrize(
    ("words", "code", "says", "following"), BAD_INPUT, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_bad_input_is_a_sentence_with_the_next_command(
    rig: Rig, words: list[str], code: int, says: str, following: str
) -> None:
    done = rig.run(*words)
    assert (done.code, done.out) == (code, ""), done.err
    assert says in done.err
    assert f"next: {following}" in done.err
    assert rig.stage_of("auth") == ("monolith", 0)


@pytest.mark.parametrize("words", [["flip"], ["flip", "auth"], ["nonsense"], ["flip", "auth", "shadow", "--waiting"]])
def test_what_the_command_line_does_not_know_is_a_usage_error(rig: Rig, words: list[str]) -> None:
    done = rig.run(*words)
    assert (done.code, done.out) == (2, "")


def test_a_gate_that_is_not_met_is_exit_code_3_with_every_reason(rig: Rig) -> None:
    async def spoil(store: Store) -> None:
        await store.sync.publish("auth", live_stream(mode="catch-up", lag_seconds=7.5))

    rig.with_store(spoil)
    done = rig.run("flip", "auth", "shadow", "-o", "json")
    assert done.code == 3
    assert done.document["error"]["code"] == "gate_refused"
    assert 'stream mode is "catch-up"' in done.document["error"]["message"]
    assert "lag is 7.50 s" in done.document["error"]["message"]
    assert done.document["error"]["next_command"] == "strangler sync status auth"
    assert rig.stage_of("auth") == ("monolith", 0)


def test_a_proxy_that_never_acknowledges_is_named_and_the_change_stands(rig: Rig) -> None:
    with Proxy(rig.database_url, "quick"), Proxy(rig.database_url, "deaf", follows=False, refused="does not compile"):
        done = rig.run("flip", "auth", "shadow", "--timeout", "0.5", "-o", "json")
        assert done.code == 5
        assert done.document["changed"]
        assert "proxy deaf (serves revision 0, refused it: does not compile)" in done.err
        assert "next: strangler status" in done.err
        status = rig.run("status")
        assert "does not compile" in status.out
        assert "acknowledged by 1 of 2 live proxies" in status.err
        assert "proxy deaf refused a newer table" in status.err
    assert rig.stage_of("auth") == ("shadow", 0)


def test_why_answers_with_the_decision_of_the_proxy(rig: Rig) -> None:
    rig.set_stage("auth", Stage.SHADOW)
    rig.set_stage("auth", Stage.CANARY, 5_000)
    sides = {}
    for user in ("1", "2", "3", "4"):
        found = rig.run("why", "GET", "http://example.org/api/auth/me?x=1", "--user", user, "-o", "json").document
        sides[user] = found["serve"]
        assert found["serve"] == ("extracted" if found["bucket"] < 5_000 else "monolith")
        (deciding,) = [step["name"] for step in found["considerations"] if step["decided"]]
        assert (found["reason"], deciding) == ("bucket against weight", "bucket")
    assert set(sides.values()) == {"monolith", "extracted"}
    unsafe = rig.run("why", "PATCH", "/api/auth/me", "--user", "1")
    assert "PATCH is unsafe: goes to the owner, monolith" in unsafe.out
    killed = rig.run("why", "GET", "/api/auth/me", "--user", "1", "--killed", "-H", "Accept: text/html", "-o", "json")
    assert killed.document["reason"] == "kill switch"
    assert "no route matches" in rig.run("why", "GET", "/").out
    assert "400 by the proxy itself" in rig.run("why", "GET", "/api/%2e%2e/x").out
    assert rig.run("why", "GET", "/", "-H", "nonsense").code == 2


def test_routes_are_listed_and_shown(rig: Rig) -> None:
    listed = rig.run("route", "list", "--flag", "payments")
    assert "payments-capture" in listed.out
    assert "auth-me" not in listed.out
    assert "everything else: cluster monolith" in listed.out
    assert "payments: 127.0.0.1:8003" in rig.run("route", "show", "payments-list").out


def test_a_changed_audit_log_is_noticed(database: str, tmp_path: Path) -> None:
    with control_rig(database, tmp_path) as fresh:
        fresh.run("apply")
        assert fresh.run("audit", "verify").code == 0
        assert "apply" in fresh.run("audit", "list", "--flag", "auth").out
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE strangler.audit DISABLE TRIGGER USER")
            connection.execute("UPDATE strangler.audit SET actor = 'nobody' WHERE id = 2")
        done = fresh.run("audit", "verify", "-o", "json")
        assert (done.code, done.document["intact"], done.document["broken_at"]) == (1, False, 2)
        assert "the audit chain is broken at entry 2" in done.err


def test_watch_shows_the_same_and_ends_after_so_many_looks(rig: Rig) -> None:
    done = rig.run("watch", "--count", "1")
    assert (done.code, "auth" in done.out) == (0, True)
    lines = rig.run("watch", "--count", "2", "--interval", "0.2", "-o", "json").out.splitlines()
    assert len(lines) == 2
    away = rig.run("watch", "--count", "1", "-o", "json", STRANGLER_CONTROL_URL=f"http://127.0.0.1:{free_port()}")
    assert (away.code, away.document["error"]["exit_code"]) == (0, 6)


@pytest.mark.parametrize("words", [["status"], ["flip", "auth", "shadow"], ["apply"], ["sync", "start", "auth"]])
def test_with_the_control_plane_away_it_is_exit_code_6(rig: Rig, words: list[str]) -> None:
    done = rig.run(*words, "-o", "json", STRANGLER_CONTROL_URL=f"http://127.0.0.1:{free_port()}")
    assert done.code == 6
    assert "does not answer" in done.document["error"]["message"]
    assert "next: strangler ps" in done.err


def test_the_wrong_address_token_or_none_is_told(rig: Rig) -> None:
    viewer = rig.run("flip", "auth", "shadow", STRANGLER_CONTROL_TOKEN=VIEWER)
    assert (viewer.code, "this token may look, and change nothing" in viewer.err) == (1, True)
    assert rig.run("status", STRANGLER_CONTROL_TOKEN=VIEWER).code == 0
    empty = rig.run("status", STRANGLER_CONTROL_TOKEN="")
    assert (empty.code, "the token is empty" in empty.err) == (2, True)
    wrong = rig.run("status", STRANGLER_CONTROL_TOKEN="not-the-token-of-anybody")
    assert (wrong.code, "does not know this token" in wrong.err) == (1, True)


def test_two_flips_at_once_one_of_them_is_stale(rig: Rig) -> None:
    revision = rig.set_stage("auth", Stage.SHADOW)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "strangler_proxy.cli.main", "flip", "auth", "canary", "-w", weight,
             "--if-revision", str(revision)],
            cwd=rig.folder, env=rig.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for weight in ("10%", "20%")
    ]  # fmt: skip
    ended = [process.communicate(timeout=30) for process in both]
    assert sorted(process.returncode for process in both) == [0, 4], ended
    won = next(weight for process, weight in zip(both, (1000, 2000), strict=True) if process.returncode == 0)
    assert rig.stage_of("auth") == ("canary", won)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("strangler flip ", {"auth", "payments"}),
        ("strangler flip auth ca", {"canary"}),
        ("strangler route show payments-c", {"payments-create", "payments-capture"}),
    ],
)
def test_completion_knows_the_names_that_exist_now(rig: Rig, words: str, expected: set[str]) -> None:
    count = str(len(words.split()) - (not words.endswith(" ")))
    done = rig.run(_STRANGLER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert set(done.out.split()) == expected
