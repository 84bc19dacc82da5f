"""`python -m strangler_proxy.local`: the run behind `strangler up --detach`, without a terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from strangler_proxy.core.errors import StranglerError
from strangler_proxy.local.run import UpOptions, up


def main() -> int:
    """Run; what went wrong goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m strangler_proxy.local")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--var", type=Path, required=True)
    parser.add_argument("--port-offset", type=int, default=0)
    parser.add_argument("--free-ports", action="store_true")
    given = parser.parse_args()
    try:
        up(
            UpOptions(
                file=given.file, var=given.var, port_offset=given.port_offset, free_ports=given.free_ports, quiet=True
            )
        )
    except StranglerError as error:
        print(error.message, file=sys.stderr)
        if error.next_command:
            print(f"next: {error.next_command}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
