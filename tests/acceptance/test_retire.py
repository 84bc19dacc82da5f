"""docs/how-to/retire.md, typed as it stands, on the example's payments while people shop."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.stack import Stack
from tests.acceptance.test_docs_commands import BLOCK, ROOT
from tests.acceptance.traffic import Traffic, summary

pytestmark = pytest.mark.long

PAGE = ROOT / "docs/how-to/retire.md"
TABLES = {
    "payments_intent",
    "payments_refund",
    "payments_idempotencykey",
    "payments_webhookevent",
    "payments_settlement",
}


def type_block(stack: Stack, block: str) -> None:
    """Run some commands of the page."""
    env = {**stack.env, "PATH": f"{Path(sys.executable).parent}:{stack.env['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", block], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.timeout(500)
async def test_payments_retire_and_come_back_while_people_shop(stack: Stack) -> None:
    look, retire, back = BLOCK.findall(PAGE.read_text())
    if stack.stage("payments")["stage"] == "monolith":
        stack.flip("payments", "shadow")
        stack.flip("payments", "canary", "--weight", "50%")
    traffic = Traffic(stack.proxy_url, shoppers=2, seed=random.randrange(1 << 30))
    await traffic.start()
    try:
        await asyncio.to_thread(type_block, stack, look)
        await asyncio.to_thread(type_block, stack, retire)
        await asyncio.sleep(3.0)  # people go on
        await asyncio.to_thread(_check_retired, stack)
        await asyncio.to_thread(type_block, stack, back)
    finally:
        sheet = await traffic.stop()
    assert not sheet.failures, summary(sheet)
    assert sheet.captured
    assert stack.stage("payments")["stage"] == "extracted"
    stack.wait_until_equal("payments", timeout_s=60.0)
    stack.flip("payments", "canary", "--weight", "50%")


def _check_retired(stack: Stack) -> None:
    flag = stack.stage("payments")
    assert (flag["stage"], flag["retired"]["tables"]) == ("retired", "read-only")
    manifest = json.loads((Path(flag["retired"]["dump"]) / "manifest.json").read_text())
    assert {each["table"] for each in manifest["tables"]} == TABLES
    assert any("accounts_user" in each for each in manifest["foreign_keys"])
    with psycopg.connect(stack.dsns["monolith"], autocommit=True) as monolith:
        monolith.execute("SELECT count(*) FROM payments_intent")
        with pytest.raises(psycopg.Error) as refused:
            monolith.execute("DELETE FROM payments_refund")
    assert refused.value.sqlstate == "MF001"
