"""`python -m tests.fakes.card_processor --port 8004`: run the stand-in."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import uvicorn

from .app import create_app
from .settings import ProcessorSettings


def main() -> int:
    """Serve until a signal; exit 2 when a setting is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.card_processor", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8004)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = ProcessorSettings.from_environ(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    uvicorn.run(
        create_app(settings),
        host=arguments.host,
        port=arguments.port,
        access_log=False,
        timeout_graceful_shutdown=2,
        backlog=1024,
        limit_concurrency=2000,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
