"""Settings of a proxy become addresses, an upstream and options, or every problem at once."""

from __future__ import annotations

import pytest

from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.route import Endpoint, Timeouts
from strangler_proxy.serve_plan import ServePlan, parse_address, parse_upstream
from strangler_proxy.serve_processes import child_environment
from strangler_proxy.settings import ServeSettings, load


def test_settings_reach_the_engine() -> None:
    settings = load(
        ServeSettings,
        listen=":80",
        admin_listen="[::1]:81",
        upstream="http://web",
        connect_timeout_s=1,
        first_byte_timeout_s=2,
        idle_timeout_s=3,
        total_timeout_s=4,
        trusted_proxies="10.0.0.0/8,::1",
        hold_limit=7,
        access_log=0.25,
    )
    plan = ServePlan.of(settings)
    assert (plan.listen, plan.admin, plan.address) == (("0.0.0.0", 80), ("::1", 81), "0.0.0.0:80")
    assert plan.upstream is not None
    assert plan.upstream.endpoints == (Endpoint(host="web", port=80),)
    assert plan.options.timeouts == Timeouts(connect_s=1, first_byte_s=2, idle_s=3, total_s=4)
    assert (plan.options.hold_limit, plan.options.access_log, len(plan.options.trusted_proxies)) == (7, 0.25, 2)
    assert plan.signer is None


@pytest.mark.parametrize("text", ["", "80", "host", "host:", "host:http", "h:70000", "h:-1", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    "text", ["web:80", "https://web", "http://", "http://web/path", "http://u:p@web", "http://w?q"]
)
def test_what_is_no_upstream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not http://HOST:PORT|only host and port count"):
        parse_upstream(text)


def test_all_problems_are_told_at_once() -> None:
    settings = load(ServeSettings, listen="x", admin_listen="y", trusted_proxies="z", signing_secret="short")
    with pytest.raises(DeclarationError) as refused:
        ServePlan.of(settings)
    told = " ".join(refused.value.problems)
    assert len(refused.value.problems) == 5
    for setting in ("LISTEN", "ADMIN_LISTEN", "TRUSTED_PROXIES", "SIGNING_SECRET"):
        assert f"STRANGLER_{setting}: " in told
    assert "nothing to forward to" in told
    assert "short" not in told


def test_a_child_gets_the_options_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANGLER_LISTEN", "1.2.3.4:1")
    settings = load(ServeSettings, listen="127.0.0.1:9", upstream="http://web", proxy_id="p", signing_secret="s" * 16)
    environment = child_environment(settings, 3)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    child = load(ServeSettings)
    assert child.proxy_id == "p-3"
    assert child.model_dump(exclude={"proxy_id"}) == settings.model_dump(exclude={"proxy_id"})
    assert child.secret() == b"s" * 16
