"""A person with a keyboard buys something, before and after the capabilities have moved, in one session."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.stack import Stack

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]


async def type_into(page: Page, label: str, text: str) -> None:
    """Reach a field by its label with the keyboard alone."""
    field = page.get_by_label(label, exact=True)
    for _ in range(40):
        if await field.evaluate("node => node === document.activeElement"):
            break
        await page.keyboard.press("Tab")
    else:
        raise AssertionError(f"no Tab leads to {label!r}")
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type(text)


async def buy(page: Page, base: str) -> None:
    """Put a product into the cart and pay for it."""
    await page.goto(f"{base}/cart/")
    await type_into(page, "Product number", "3")
    async with page.expect_navigation():
        await page.keyboard.press("Enter")
    await page.goto(f"{base}/checkout/")
    await type_into(page, "Card", "tok_visa")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/orders/*/")
    await expect(page.locator(".status")).to_have_text("paid", ignore_case=True)


def move_to(stack: Stack, flag: str, stage: str) -> None:
    """Flip unless it is there."""
    if stack.stage(flag)["stage"] != stage:
        stack.flip(flag, stage)


@pytest.mark.long
async def test_a_session_outlives_both_cutovers(stack: Stack, page: Page) -> None:
    base = stack.proxy_url
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    await page.goto(f"{base}/register/")
    await type_into(page, "Name", "Kim")
    await type_into(page, "E-mail address", email)
    await type_into(page, "Password, at least 10 characters", "correct horse battery")
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: "/register" not in url)
    await buy(page, base)
    for flag in ("auth", "payments"):
        await asyncio.to_thread(move_to, stack, flag, "extracted")
    await buy(page, base)
    await page.goto(f"{base}/account/")
    await expect(page.locator("main")).to_contain_text(email)
    for flag in ("auth", "payments"):
        await asyncio.to_thread(stack.flip, flag, "canary", "--weight", "50%")
    await buy(page, base)
