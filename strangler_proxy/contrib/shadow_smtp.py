"""Mail that a marked request sends through the standard library: noted, and in a mirrored request not sent.

Connecting and signing in to the mail server is let through: it changes nothing there. Plain Python 3.9 and standard
library only.
"""

from __future__ import annotations

import functools
import hashlib
import smtplib
from email import message_from_bytes, message_from_string, policy
from typing import Any

from strangler_proxy.contrib.shadow_capture import current

_MARK = "_strangler_captures"


def install() -> None:
    """Wrap `smtplib.SMTP.sendmail`, which `send_message` comes to as well. Safe to repeat."""
    native = smtplib.SMTP.sendmail
    if not getattr(native, _MARK, False):
        smtplib.SMTP.sendmail = _captured(native)  # type: ignore[method-assign]


def _captured(native: Any) -> Any:
    @functools.wraps(native)
    def sendmail(self: Any, from_addr: Any, to_addrs: Any, msg: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None:
            return native(self, from_addr, to_addrs, msg, *args, **kwargs)
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        refused: Any = {}
        with capture.outermost("mail") as outermost:
            if not capture.mirrors:
                refused = native(self, from_addr, recipients, msg, *args, **kwargs)
        if outermost:
            capture.note("mail", {"from": from_addr, "to": recipients, **_read(msg)})
        return refused

    setattr(sendmail, _MARK, True)
    return sendmail


def _read(raw: Any) -> dict[str, Any]:
    """Subject, texts and attachments, as `contrib.django.shadow_mail` tells them. Boundaries and ids are left out."""
    message = (
        message_from_bytes(raw, policy=policy.default)
        if isinstance(raw, bytes)
        else message_from_string(str(raw), policy=policy.default)
    )
    texts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    bodies = [_text(part) for part in texts if not part.get_filename()]
    attached = [part for part in message.walk() if part.get_filename()]
    said: dict[str, Any] = {"subject": str(message.get("Subject", "")), "body": bodies[0] if bodies else ""}
    if bodies[1:]:
        said["alternatives"] = bodies[1:]
    if attached:
        said["attachments"] = [{"name": part.get_filename(), "sha256": _sha256(part)} for part in attached]
    return said


def _text(part: Any) -> str:
    raw: bytes = part.get_payload(decode=True) or b""
    return raw.decode(part.get_content_charset() or "utf-8", "replace").replace("\r\n", "\n").rstrip()


def _sha256(part: Any) -> str:
    return hashlib.sha256(part.get_payload(decode=True) or b"").hexdigest()
