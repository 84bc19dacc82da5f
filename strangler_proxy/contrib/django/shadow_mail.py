"""Mail of a marked request: noted, and in a mirrored request not sent.

Every e-mail backend's `send_messages` is wrapped where it is defined, so that it does not matter which one the settings
name, nor whether code makes its own connection. `django.core.mail.EmailMessage.send` is wrapped too, for a backend that
nobody has heard of yet.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from email.utils import parseaddr
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends import console, dummy, filebased, locmem, smtp
from django.core.mail.backends.base import BaseEmailBackend

from strangler_proxy.contrib.shadow_capture import Capture, current

_MARK = "_strangler_captures"
_BUILT_IN = (console, dummy, filebased, locmem, smtp)  # imported, so that they are among the subclasses


def install() -> None:
    """Wrap the backends that are loaded, and sending itself. Safe to repeat: a backend loaded later is found then."""
    for backend in _subclasses(BaseEmailBackend):
        if "send_messages" in vars(backend) and not wrapped(backend):
            backend.send_messages = _wrapped_backend(backend.send_messages)
    if not getattr(EmailMessage.send, _MARK, False):
        EmailMessage.send = _wrapped_send(EmailMessage.send)  # type: ignore[method-assign]


def wrapped(backend: type) -> bool:
    """Does this class capture what it is given to send?"""
    return bool(getattr(getattr(backend, "send_messages", None), _MARK, False))


def _subclasses(parent: type) -> Iterable[Any]:
    children: list[type] = parent.__subclasses__()
    for child in children:
        yield child
        yield from _subclasses(child)


def _wrapped_backend(send_messages: Any) -> Any:
    @functools.wraps(send_messages)
    def captured(self: Any, email_messages: Any) -> Any:
        capture = current.get()
        if capture is None or not email_messages:
            return send_messages(self, email_messages)
        messages = list(email_messages)
        if capture.mirrors:
            return sum(_note(capture, message, _counts(self, message)) for message in messages)
        with capture.outermost("mail") as outermost:  # a backend that hands on to another sends once
            sent = send_messages(self, messages)
        if outermost:
            for message in messages:
                _note(capture, message, _counts(self, message))
        return sent

    setattr(captured, _MARK, True)
    return captured


def _wrapped_send(send: Any) -> Any:
    @functools.wraps(send)
    def captured(self: Any, *args: Any, **kwargs: Any) -> Any:
        capture = current.get()
        if capture is None or not capture.mirrors:
            return send(self, *args, **kwargs)
        return _note(capture, self, bool(self.recipients()))

    setattr(captured, _MARK, True)
    return captured


def _counts(backend: Any, message: Any) -> bool:
    """Would this backend send it? SMTP's does not send what nobody is to receive; the others keep it all the same."""
    return not isinstance(backend, smtp.EmailBackend) or bool(message.recipients())


def _note(capture: Capture, message: Any, counts: bool) -> int:
    """One message, as told to the other side; how many were "sent"."""
    if counts:
        capture.note("mail", _detail(message))
    return int(counts)


def _detail(message: Any) -> Mapping[str, Any]:
    """As `shadow_smtp` tells it, so that a side that does not use Django can be compared: addresses of the envelope."""
    alternatives = getattr(message, "alternatives", None) or ()
    detail: dict[str, Any] = {
        "from": parseaddr(str(message.from_email))[1],
        "to": [parseaddr(str(address))[1] for address in message.recipients()],
        "subject": str(message.subject),
        "body": str(message.body).rstrip(),
    }
    if alternatives:
        detail["alternatives"] = [str(content).rstrip() for content, _ in alternatives]
    if message.attachments:
        detail["attachments"] = [_attachment(attachment) for attachment in message.attachments]
    return detail


def _attachment(attachment: Any) -> Mapping[str, Any]:
    if isinstance(attachment, tuple):
        name, content = attachment[0], attachment[1]
    else:  # a MIMEBase
        name, content = attachment.get_filename(), attachment.get_payload(decode=True)
    raw = content if isinstance(content, bytes) else str(content or "").encode("utf-8", "replace")
    return {"name": name or "", "sha256": hashlib.sha256(raw).hexdigest()}
