"""An e-mail backend of the example: one file per message, named after its id, in `EMAIL_FILE_PATH`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class FileMailbox(BaseEmailBackend):
    """A message that is sent twice is one file; a reader never sees half of one."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Write them; how many."""
        folder = Path(settings.EMAIL_FILE_PATH)
        folder.mkdir(parents=True, exist_ok=True)
        for letter in email_messages:
            message = letter.message()
            name = _UNSAFE.sub("_", str(message["Message-ID"]).strip("<>").partition("@")[0])
            aside = folder / f".{name}.{os.getpid()}"
            aside.write_bytes(message.as_bytes())
            aside.replace(folder / f"{name}.eml")
        return len(email_messages)
