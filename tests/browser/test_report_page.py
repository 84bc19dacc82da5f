"""The HTML report in a real browser: from disk, by keyboard, with hostile content, large, and on paper."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from strangler_proxy.core.sample import Sample
from strangler_proxy.report_html import html
from tests import reports

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]


class Opened:
    """A report in the browser, and everything that it asked for or complained about."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.url = path.as_uri()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    async def go(self, fragment: str = "") -> Page:
        await self.page.goto(f"{self.url}{fragment}")
        return self.page

    def check(self) -> None:
        """It loaded itself and nothing else, and nobody complained."""
        assert {url.partition("#")[0] for url in self.requests} == {self.url}
        assert self.complaints == []


async def opened(page: Page, folder: Path, document: Any, samples: Sequence[Sample] = ()) -> Opened:
    """The report, written to disk and opened from there."""
    path = folder / "report.html"
    path.write_text(html(document, samples), encoding="utf-8")
    report = Opened(page, path)
    await report.go()
    return report


async def tab_to(page: Page, selector: str, most: int = 120) -> None:
    """Reach an element with Tab alone."""
    target = page.locator(selector).first
    for _ in range(most):
        await page.keyboard.press("Tab")
        if await target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"no Tab leads to {selector}")


async def column(page: Page, place: int) -> list[str]:
    """A column of the rows that are shown."""
    return await page.locator(f"#strata-table tbody tr:not([hidden]) > :nth-child({place})").all_inner_texts()


async def test_it_opens_from_disk_and_asks_the_network_for_nothing(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await expect(page.locator("h1")).to_have_text("http://old against http://new")
    await expect(page.locator("header .verdict")).to_contain_text("1 of 3 strata has a confirmed difference")
    await expect(page.locator("svg.plot")).to_have_count(3)
    await expect(page).to_have_title(re.compile("^mismatched: "))
    await expect(page.locator("#unseen")).to_contain_text("/reports/{date}")
    assert await page.evaluate("document.documentElement.lang") == "en"
    report.check()


async def test_strata_are_sorted_by_keyboard(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await tab_to(page, "#strata-table button[data-sort='6']")
    await page.keyboard.press("Enter")
    assert await column(page, 7) == ["1,000", "1,000", "9,040"]
    await expect(page.locator("#strata-table th[aria-sort='ascending']")).to_have_text(re.compile("Compared"))
    await page.keyboard.press("Space")
    assert await column(page, 7) == ["9,040", "1,000", "1,000"]
    await tab_to(page, "#strata-table button[data-sort='2']")
    await page.keyboard.press("Enter")
    assert await column(page, 3) == ["/cart", "/orders/{id}", "/products/{slug}"]
    report.check()


async def test_strata_are_filtered_by_keyboard(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three())
    await tab_to(page, "#strata-filter")
    await page.keyboard.type("get ORDERS")
    await expect(page.locator("#strata-shown")).to_have_text("1 of 3 shown")
    await page.keyboard.press("Enter")  # it does not send the form away
    assert await column(page, 3) == ["/orders/{id}"]
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.press("Delete")
    await tab_to(page, "input[value=mismatched]")
    await page.keyboard.press("Space")
    assert await column(page, 3) == ["/cart", "/products/{slug}"]
    report.check()


async def test_a_difference_is_opened_and_leads_to_its_sample_by_keyboard(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await tab_to(page, "#d0-0 summary")
    await page.keyboard.press("Enter")
    await expect(page.locator("#d0-0 .sides")).to_be_visible()
    await expect(page.locator("#d0-0 mark")).to_have_text(["0", "1"])
    await tab_to(page, "#d0-0 a")
    await page.keyboard.press("Enter")
    sample = page.locator("#n0")
    await expect(sample).to_have_attribute("open", "")
    await expect(sample.locator("summary").first).to_be_focused()
    await expect(sample.locator("tr.differs")).to_contain_text(["x-new: 1", '"price": 10.00'])
    assert await sample.locator("summary").first.evaluate("n => getComputedStyle(n).outlineStyle") == "solid"
    report.check()


async def test_what_is_filtered_away_comes_back_when_a_link_leads_to_it(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await tab_to(page, "#differences-filter")
    await page.keyboard.type("meta.trace")
    await expect(page.locator("#d0-0")).to_be_hidden()
    await expect(page.locator("#differences-shown")).to_have_text("1 of 2 shown")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await expect(page.locator("#differences-shown")).to_have_text("0 of 2 shown")
    await page.locator("#strata-table a[href='#s0']").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#d0-0")).to_be_visible()
    await expect(page.locator("#s0")).to_be_focused()
    report.check()


async def test_hostile_text_stays_text(page: Page, tmp_path: Path) -> None:
    document, samples = reports.hostile()
    report = await opened(page, tmp_path, document, samples)
    await page.locator("#differences-open").focus()
    await page.keyboard.press("Enter")
    await report.go("#n0")
    await expect(page.locator("h1")).to_contain_text("<script>window.hacked=1</script><img src=x")
    await expect(page.locator("#n0")).to_contain_text("<!--<script>window.hacked=1</script>")
    assert await page.evaluate("window.hacked") is None
    assert await page.locator("img").count() == 0
    assert await page.locator("script").count() == 1
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in raw
    assert "\u202e" not in raw
    report.check()


async def test_markup_that_got_through_would_not_run(page: Page, tmp_path: Path) -> None:
    """The second wall: even if something were not escaped, the policy of the page forbids it."""
    path = tmp_path / "report.html"
    bad = "<script>window.hacked=1</script><img src='http://127.0.0.1:9/x' onerror='window.hacked=2'>"
    path.write_text(html(reports.three()).replace("<main>", f"<main>{bad}"), encoding="utf-8")
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await page.goto(path.as_uri())
    assert await page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in each for each in refused)


async def test_three_hundred_strata_and_two_thousand_differences_do_not_hang_it(page: Page, tmp_path: Path) -> None:
    document, samples = reports.large()
    report = await opened(page, tmp_path, document, samples)
    await expect(page.locator("#strata-shown")).to_have_text("300 of 300 shown")
    await expect(page.locator("#differences-shown")).to_have_text("2,000 of 2,000 shown")
    await page.locator("#strata-table button[data-sort='6']").focus()
    await page.keyboard.press("Enter")
    assert (await column(page, 7))[:3] == ["0", "51", "102"]
    await page.locator("#differences-filter").fill("things7/ thing7")
    await expect(page.locator("#differences-shown")).to_have_text(re.compile(r"^[1-9]\d* of 2,000 shown"))
    slowest_ms = await page.evaluate(
        """() => {
             const times = [];
             for (const button of document.querySelectorAll("#strata-table button")) {
               const began = performance.now();
               button.click();
               document.body.getBoundingClientRect();
               times.push(performance.now() - began);
             }
             return Math.max(...times);
           }"""
    )
    assert slowest_ms < 5_000
    report.check()


async def test_on_paper_differences_are_open_and_controls_are_gone(page: Page, tmp_path: Path) -> None:
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await page.emulate_media(media="print", color_scheme="dark")
    await expect(page.locator("nav")).to_be_hidden()
    await expect(page.locator("#strata-controls")).to_be_hidden()
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    await page.evaluate("dispatchEvent(new Event('beforeprint'))")
    await expect(page.locator("#d0-0 .sides")).to_be_visible()
    await page.evaluate("dispatchEvent(new Event('afterprint'))")
    await expect(page.locator("#d0-0 .sides")).to_be_hidden()
    assert (await page.pdf())[:5] == b"%PDF-"
    report.check()


CONTRAST = """() => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
    .map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const paper = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const found = number(getComputedStyle(each).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll("body *:not(script)")) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!own || node.closest("svg") || !node.checkVisibility()) continue;
    const [a, b] = [light(number(getComputedStyle(node).color)), light(paper(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${node.tagName} ${node.className}: ${node.textContent.slice(0, 40)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_with_little_sight_or_none(page: Page, tmp_path: Path, scheme: Any) -> None:
    await page.emulate_media(color_scheme=scheme)
    report = await opened(page, tmp_path, reports.three(), [reports.sample()])
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert await page.evaluate(CONTRAST) == []
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        await expect(page.get_by_role(landmark)).to_have_count(1)
    levels = [int((await each.evaluate("n => n.tagName"))[1]) for each in await page.get_by_role("heading").all()]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for each in await page.locator("input").all():
        assert await each.evaluate("node => node.labels.length") == 1
    assert await page.locator("svg:not([aria-label])").count() == 0
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_be_visible()
    report.check()


async def test_without_scripts_everything_is_still_there(page: Page, tmp_path: Path) -> None:
    browser = page.context.browser
    assert browser is not None
    context = await browser.new_context(java_script_enabled=False)
    try:
        plain = await context.new_page()
        await opened(plain, tmp_path, reports.three(), [reports.sample()])
        await expect(plain.locator("#strata-table tbody tr")).to_have_count(3)
        await plain.locator("#d0-0 summary").click()
        await expect(plain.locator("#d0-0 .sides")).to_be_visible()
    finally:
        await context.close()
