"""Proposing a manifest: what moves together, in which order, and what people have to decide."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.manifest import Manifest, OnDelete, SoftReference
from strangler_proxy.plan import SourceFile, load_plans
from strangler_proxy.plan.proposal import Proposal, Weight, propose, propose_for
from strangler_proxy.plan.proposal_text import data_section
from strangler_proxy.plan.schema import (
    ColumnFacts,
    GenericFacts,
    ManyFacts,
    ModelFacts,
    ProjectFacts,
    ReceiverFacts,
    SignalFacts,
    read_project,
)

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
[capability]
key = "shop"
salt = "shop"
monolith = "monolith"
extracted = "shop"
[clusters.monolith]
endpoints = ["127.0.0.1:8001"]
[clusters.shop]
endpoints = ["127.0.0.1:8003"]
[routes.shop]
path = "/shop/**"
"""


def fk(name: str, to: str, on_delete: str = "CASCADE") -> ColumnFacts:
    label, _, column = to.partition("#")
    table = label.replace(".", "_").lower()
    return ColumnFacts(
        name=name,
        kind="ForeignKey",
        references=f"{table}.{column or 'id'}",
        references_label=label,
        on_delete=on_delete,
    )


def model(label: str, *columns: ColumnFacts, **facts: object) -> ModelFacts:
    key = ColumnFacts(name="id", kind="BigAutoField", auto=True, unique=True)
    made = ModelFacts(
        label=label,
        app=label.partition(".")[0],
        table=label.replace(".", "_").lower(),
        key=("id",),
        columns=(key, *columns),
    )
    return dataclasses.replace(made, **facts)  # type: ignore[arg-type]


def read_back(proposal: Proposal) -> Manifest:
    plans = load_plans([SourceFile(name="shop.toml", text=HEAD + data_section(proposal))], {})
    manifest = plans.capabilities[0].manifest
    assert manifest is not None
    return manifest


def says(proposal: Proposal, weight: Weight, table: str) -> str:
    return "\n".join(each.says for each in proposal.findings if (each.weight, each.table) == (weight, table))


ORDER = model(
    "shop.Order",
    fk("user_id", "auth.User", "PROTECT"),
    ColumnFacts(name="total", kind="DecimalField"),
    ColumnFacts(name="status", kind="CharField", choices=True),
)
LINE = model("shop.Line", fk("order_id", "shop.Order"))
USER = model("auth.User")


def test_parents_come_first_and_references_to_what_stays_become_soft() -> None:
    proposal = propose([LINE, ORDER, USER], "shop", ["shop"])
    order, line = proposal.manifest.tables
    assert (order.monolith, line.monolith) == ("shop_order", "shop_line")
    assert order.soft_references == (
        SoftReference(column="user_id", references="auth_user.id", on_delete=OnDelete.REFUSE),
    )
    assert line.soft_references == ()
    assert (order.sequence, order.money, order.money_by) == ("id", ("total",), ("status",))
    assert "user_id names auth_user.id, which stays" in says(proposal, Weight.CHECK, "shop_order")


def test_what_shares_rows_moves_together() -> None:
    parent = model("base.Payment")
    child = model("shop.Card", fk("payment_ptr_id", "base.Payment"), parents=("base.Payment",), key=("payment_ptr_id",))
    sibling = model("other.Cash", parents=("base.Payment",))
    proposal = propose([child, parent, sibling], "shop", ["shop.Card"])
    assert [table.monolith for table in proposal.manifest.tables] == ["base_payment", "other_cash", "shop_card"]
    assert "inherits" in says(proposal, Weight.CHECK, "base_payment")
    assert "inherits" in says(proposal, Weight.CHECK, "other_cash")


def test_a_table_that_joins_two_that_move_moves_and_one_with_what_stays_is_for_people() -> None:
    tags = ManyFacts(name="tags", through="shop.Order_tags", table="shop_order_tags", to="shop.Tag", auto_created=True)
    groups = ManyFacts(name="g", through="shop.Order_g", table="shop_order_g", to="auth.User", auto_created=True)
    order = dataclasses.replace(ORDER, many_to_many=(tags, groups))
    joined = model("shop.Order_tags", fk("order_id", "shop.Order"), fk("tag_id", "shop.Tag"), auto_created=True)
    other = model("shop.Order_g", fk("order_id", "shop.Order"), fk("user_id", "auth.User"), auto_created=True)
    proposal = propose([order, model("shop.Tag"), joined, other, USER], "shop", ["shop"])
    assert [table.monolith for table in proposal.manifest.tables][-1] == "shop_order_tags"
    assert "shop_order_g" not in {table.monolith for table in proposal.manifest.tables}
    assert "stays too, unless" in says(proposal, Weight.DECIDE, "shop_order_g")


def test_what_columns_do_not_show_is_told() -> None:
    order = dataclasses.replace(
        ORDER,
        managed=False,
        generic=(GenericFacts(name="about", type_column="type_id", key_column="about_id"),),
        receivers=(ReceiverFacts(signal="post_save", function="shop.signals.told", where="shop/signals.py:3"),),
        columns=(*ORDER.columns, ColumnFacts(name="invoice", kind="FileField")),
    )
    outside = model("audit.Entry", fk("order_id", "shop.Order"))
    proposal = propose([order, USER, outside], "shop", ["shop"])
    decide = says(proposal, Weight.DECIDE, "shop_order")
    for part in (
        "unmanaged",
        "content types differ",
        "shop.signals.told listens to post_save",
        "the files do not move",
    ):
        assert part in decide
    assert "goes on reading its copy" in says(proposal, Weight.CHECK, "audit_entry")
    assert proposal.findings[0].weight is Weight.DECIDE, "the weightiest first"


def test_what_only_looks_like_a_reference_and_what_the_database_makes_itself_are_told() -> None:
    order = model(
        "shop.Order",
        ColumnFacts(name="offer_id", kind="PositiveIntegerField", where="shop/models.py:7"),
        ColumnFacts(name="paid", kind="BooleanField"),
        ColumnFacts(name="doubled", kind="DecimalField", generated=True),
    )
    proposal = propose([order], "shop", ["shop"])
    assert "offer_id looks like the key of a row elsewhere" in says(proposal, Weight.CHECK, "shop_order")
    assert [column.monolith for column in proposal.manifest.tables[0].columns] == ["id", "offer_id", "paid"]
    assert proposal.manifest.tables[0].money == ()
    assert "doubled is generated" in says(proposal, Weight.NOTE, "shop_order")
    assert "(shop/models.py:7)" in " ".join(data_section(proposal).replace("\n#", "").split())


def test_rows_outside_that_the_database_ties_to_what_moves_are_told() -> None:
    kept = dataclasses.replace(fk("order_id", "shop.Order"), where="audit/models.py:3")
    loose = dataclasses.replace(fk("order_id", "shop.Order", "SET_NULL"), null=True, constraint=False)
    proposal = propose([ORDER, USER, model("audit.Entry", kept), model("audit.Loose", loose)], "shop", ["shop"])
    assert "that key gets stuck" in says(proposal, Weight.CHECK, "audit_entry")
    assert "move it too (--app audit.Entry)" in says(proposal, Weight.CHECK, "audit_entry")
    assert "stuck" not in says(proposal, Weight.NOTE, "audit_loose")


def test_listeners_to_the_projects_own_signals_are_told() -> None:
    told = SignalFacts(
        app="shop", name="shop.signals.placed",
        receivers=(ReceiverFacts(signal="shop.signals.placed", function="mail.send", where="mail.py:9"),),
    )  # fmt: skip
    other = dataclasses.replace(told, app="auth", name="auth.signals.came")
    proposal = propose_for(ProjectFacts(models=(ORDER, USER), signals=(told, other)), "shop", ["shop"])
    heard = [each for each in proposal.findings if "listens to" in each.says]
    assert [(each.says.partition(":")[0], each.where) for each in heard] == [
        ("mail.send listens to shop.signals.placed", "mail.py:9")
    ]


def test_a_circle_of_foreign_keys_is_told_and_does_not_hang() -> None:
    one, two = model("shop.One", fk("two_id", "shop.Two")), model("shop.Two", fk("one_id", "shop.One"))
    proposal = propose([one, two], "shop", ["shop"])
    assert len(proposal.manifest.tables) == 2
    assert any("circle" in each.says for each in proposal.findings)


def test_a_name_that_no_model_has_is_refused_with_the_apps_there_are() -> None:
    with pytest.raises(DeclarationError, match="there are the apps auth, shop"):
        propose([ORDER, USER], "shop", ["shpo"])


labels = st.sampled_from([f"app{a}.M{m}" for a in range(3) for m in range(3)])


@st.composite
def schemas(draw: st.DrawFn) -> list[ModelFacts]:
    made = []
    for label in draw(st.lists(labels, unique=True, min_size=1, max_size=9)):
        columns = [
            fk(f"c{number}_id", to, draw(st.sampled_from(["CASCADE", "PROTECT", "SET_NULL", "DO_NOTHING", ""])))
            for number, to in enumerate(draw(st.lists(labels, max_size=3)))
        ]
        if draw(st.booleans()):
            columns.append(ColumnFacts(name="price", kind="DecimalField"))
        made.append(model(label, *columns, parents=tuple(draw(st.lists(labels, max_size=1)))))
    return made


@given(schemas())
def test_every_proposal_reads_back_as_it_was_meant_with_parents_first(models: list[ModelFacts]) -> None:
    proposal = propose(models, "shop", [models[0].label])
    assert read_back(proposal) == dataclasses.replace(proposal.manifest, flag="shop")
    moved = [table.monolith for table in proposal.manifest.tables]
    assert len(set(moved)) == len(moved)
    circle = {each.table for each in proposal.findings if "circle" in each.says}
    by_table = {each.table: each for each in models}
    for position, name in enumerate(moved):
        for column in by_table[name].columns:
            target = column.references.rpartition(".")[0]
            if target in moved and target != name and name not in circle:
                assert moved.index(target) < position


def test_the_shops_payments_are_proposed_as_people_declared_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "strangler_proxy.contrib.django.schema_facts", "monolith.config.settings"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "SHOP_DEBUG": "1"}, timeout=60, check=True,
    )  # fmt: skip
    proposal = propose_for(read_project(json.loads(done.stdout)), "payments", ["payments"])
    with (ROOT / "migrations_plan" / "payments.toml").open("rb") as file:
        declared = tomllib.load(file)["data"]
    by_hand = {table["monolith"]: table for table in declared["tables"]}
    assert {table.monolith for table in proposal.manifest.tables} == set(by_hand)
    assert proposal.manifest.idempotency_table == declared["idempotency_table"]
    for table in proposal.manifest.tables:
        mine = by_hand[table.monolith]
        assert set(table.column_names(next(iter(proposal.manifest.databases)))) == set(mine["columns"])
        assert list(table.key) == mine["key"]
        assert list(table.money) == mine.get("money", [])
    intent = next(table for table in proposal.manifest.tables if table.monolith == "payments_intent")
    assert [each.on_delete for each in intent.soft_references] == [OnDelete.REFUSE, OnDelete.REFUSE]
    told = "user_id names accounts_user.id, which stays: a soft reference from now on (on_delete PROTECT became refuse)"
    found = next(each for each in proposal.findings if (each.weight, each.says) == (Weight.CHECK, told))
    file, _, line = found.where.rpartition(":")
    assert "user" in (ROOT / file).read_text().splitlines()[int(line) - 1]
