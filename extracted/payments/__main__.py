"""`python -m extracted.payments serve | messages | migrate`: one process each."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import threading

import psycopg
import structlog
import uvicorn

from extracted.payments.app import SERVICE, create_app
from extracted.payments.messages import PartDied, run_messages
from extracted.payments.migrate import migrate
from extracted.payments.settings import BadSettings, DatabaseSettings, MessagingSettings, ServeSettings, load_settings
from strangler_proxy.contrib.observe import configure_logging

GRACE_S = 10
"""After SIGTERM no more is accepted, and what is being answered has so long to finish."""

log = structlog.get_logger()


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, 1 where it failed, 2 for bad settings or usage."""
    options = _parser().parse_args(arguments)
    configure_logging(SERVICE)
    try:
        return _run(options)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    except psycopg.Error as error:
        print(f"the database failed: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        return 1
    except PartDied as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "serve":
            return serve(load_settings(ServeSettings), options.host, options.port)
        case "messages":
            return messages(load_settings(MessagingSettings))
        case _:
            for name in migrate(load_settings(DatabaseSettings).database_url):
                print(f"applied {name}")
            return 0


def serve(settings: ServeSettings, host: str, port: int) -> int:
    """The web process, until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops gracefully and then raises the signal again; leaving when asked to is a success.
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        limit_concurrency=1000,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


def messages(settings: MessagingSettings) -> int:
    """Publish what the outbox holds, take tasks, sweep for outcomes that are missing, until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    asyncio.run(run_messages(settings, stop))
    log.info("messages.stopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m extracted.payments", description="The payments service.")
    commands = parser.add_subparsers(dest="command", required=True)
    web = commands.add_parser("serve", help="answer HTTP")
    web.add_argument("--host", default="127.0.0.1")
    web.add_argument("--port", type=int, default=8003)
    commands.add_parser("messages", help="publish the outbox, take handed tasks, sweep for missing outcomes")
    commands.add_parser("migrate", help="bring the database's schema up to date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
