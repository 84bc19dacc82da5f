"""What a marked request publishes with Kombu: noted, and in a mirrored request not sent.

A mirrored request declares nothing at the broker, and taking messages, purging and deleting are refused. Celery's sends
are noted as tasks by `contrib.celery`; what they publish below is part of that.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import kombu as untyped_kombu

from strangler_proxy.contrib.shadow_capture import current, refusal

kombu: Any = untyped_kombu
"""Its annotations are there in part only, which is worse for strict typing than none."""

_MARK = "_strangler_captures"


_DECLARED = (("Queue", "declare"), ("Queue", "bind_to"), ("Exchange", "declare"), ("Exchange", "bind_to"))
_REFUSED = (
    *(("Queue", name) for name in ("get", "purge", "delete", "unbind_from", "cancel")),
    ("Exchange", "delete"),
    ("Exchange", "unbind_from"),
    ("Consumer", "consume"),
    ("Consumer", "purge"),
)


def install() -> None:
    """Wrap what Kombu has that reaches the broker. Safe to repeat."""
    publish = kombu.Producer.publish
    if getattr(publish, _MARK, False):
        return
    kombu.Producer.publish = _captured(publish)
    for names, how in ((_DECLARED, _undeclared), (_REFUSED, _refused)):
        for owner, name in names:
            cls = getattr(kombu, owner)
            setattr(cls, name, how(name, getattr(cls, name)))


def _undeclared(name: str, native: Any) -> Any:
    @functools.wraps(native)
    def declared(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None or not capture.mirrors:
            return native(self, *args, **kwargs)
        return self.name

    return declared


def _refused(name: str, native: Any) -> Any:
    @functools.wraps(native)
    def refused(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is not None and capture.mirrors:
            raise refusal(f"{name} at a message broker")
        return native(self, *args, **kwargs)

    return refused


def _captured(publish: Any) -> Any:
    @functools.wraps(publish)
    def captured(self: Any, body: Any, routing_key: Any = None, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None:
            return publish(self, body, routing_key, *args, **kwargs)
        exchange = kwargs.get("exchange") or self.exchange
        detail = {
            "exchange": str(getattr(exchange, "name", exchange) or ""),
            "routing_key": str(self.routing_key if routing_key is None else routing_key),
            "body": _body(body),
        }
        if capture.mirrors:
            capture.note("message", detail)
            return None
        with capture.outermost("message") as outermost:
            result = publish(self, body, routing_key, *args, **kwargs)
        if outermost:
            capture.note("message", detail)
        return result

    setattr(captured, _MARK, True)
    return captured


def _body(body: Any) -> Any:
    if isinstance(body, (bytes, bytearray)):
        body = bytes(body).decode("utf-8", "replace")
    if isinstance(body, str):
        try:
            return json.loads(body)
        except ValueError:
            return body
    return json.loads(json.dumps(body, default=str))
