"""A proof that was killed leaves nothing behind: its processes end with it."""

from __future__ import annotations

import os
import threading
import time


def end_with_parent() -> None:
    """From now on this process ends when its parent does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
