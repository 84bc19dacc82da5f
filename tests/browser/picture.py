"""Draws the picture of a report for the docs: `python -m tests.browser.picture docs/pictures/shadow-report.png`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from strangler_proxy.core.strata import Unseen
from strangler_proxy.core.verdict import Evidence
from strangler_proxy.report_html import html
from tests import reports
from tests.browser.conftest import FLAGS


def document() -> Any:
    """A report of an afternoon."""
    hour = 7_200.0
    return reports.report(
        (
            reports.stratum(
                "/orders/{id}", Evidence(matched=18_400, mismatched=61, confirmed=61, seconds=hour),
                key=reports.key("/orders/{id}", signed_in=True),
                differences=(
                    reports.difference("total.amount", sample=reports.sample().id, count=61, confirmed=61),
                    reports.difference("links[].token", count=18_300, covered=18_300, confirmed=0, noise=1.0),
                ),
            ),
            reports.stratum("/products/{slug}", Evidence(matched=41_000, ignored=210, seconds=hour)),
            reports.stratum("/products/search", Evidence(matched=9_100, seconds=hour)),
            reports.stratum("/cart", Evidence(matched=2_900, mismatched=2, seconds=hour)),
            reports.stratum("/orders", Evidence(matched=640, seconds=hour), key=reports.key("/orders", signed_in=True)),
            reports.stratum(
                "/orders/{id}", Evidence(matched=310, seconds=hour), key=reports.key("/orders/{id}", status_class="4xx")
            ),
        ),
        title="http://monolith:8001 against http://orders:8002",
        drops={"queue_full": 180, "body_too_large": 12},
        unseen=(Unseen(key=reports.key("/orders/{id}/invoice"), requests=64, compared=0, share=0.0009),),
        control_version="v311",
        candidate_version="v12",
    )  # fmt: skip


async def draw(path: Path) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        page_file = Path(folder) / "report.html"
        page_file.write_text(html(document(), [reports.sample()]), encoding="utf-8")
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
            page = await browser.new_page(viewport={"width": 1180, "height": 1290}, color_scheme="light")
            await page.goto(page_file.as_uri())
            await page.screenshot(path=str(path))
            await browser.close()


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
