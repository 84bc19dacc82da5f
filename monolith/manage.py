#!/usr/bin/env python
"""Django's command line for the example monolith: `python monolith/manage.py COMMAND`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run one management command with `monolith.config.settings`."""
    # Started as a script, Python puts monolith/ itself on the path: `import config` would then be a second copy.
    sys.path[:] = [str(HERE.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monolith.config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
