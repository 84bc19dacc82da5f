"""The rest of the cast of a site: two proxies, an application on each side, the card processor, a broker, its post."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from strangler_proxy.contrib import messaging
from strangler_proxy.core.stage import Origin
from strangler_proxy.local.valkey import EmbeddedValkey
from tests.fakes.card_processor.running import TOKEN, RunningCardProcessor
from tests.integration.sync_world import APP_EXTRACTED, APP_MONOLITH
from tests.prove.fault_line import Fault, Lines
from tests.prove.post import EFFECTS_SQL
from tests.prove.process import ProvedProcess
from tests.prove.site import Site
from tests.servers import RABBITMQ_URL, free_port

SECRET = "a secret for proofs only, no shorter than 32"
_RABBITMQ_PORT = 5672


class Cast:
    """Started with `begin`; what it does goes into the site's faults, healing and verdict."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.processor = RunningCardProcessor(site.folder)
        self.broker: EmbeddedValkey | None = None
        self._line: Lines | None = None
        self._exchange = f"prove-{os.getpid()}-{site.plan.seed}"
        url = self._broker_url()
        self._effects = self._messages()
        self.config = site.folder / "cast.json"
        self.config.write_text(
            json.dumps(
                {
                    "provider": self.processor.url,
                    "token": TOKEN,
                    "lanes": [lane.clients() for lane in site.lanes],
                    "exchange": self._exchange,
                    "broker": url,
                    "outboxes": [site.lanes[0].world.app_url(side) for side in Origin],
                    "effects": self._effects,
                }
            )
        )
        self._proxy_lines = Lines({(name, "control"): site.servers[Origin.MONOLITH].port for name in ("p1", "p2")})
        self.proxy_ports = {name: free_port() for name in ("p1", "p2")}
        self.proxies = [self._proxy(name) for name in self.proxy_ports]
        self.shops = [self._shop(side) for side in Origin]
        self.posts = [
            ProvedProcess(name, "tests.prove.post", [str(self.config)], {}, site.folder) for name in ("post1", "post2")
        ]

    @property
    def proxy_urls(self) -> list[str]:
        """Where payers go."""
        return [f"http://127.0.0.1:{port}" for port in self.proxy_ports.values()]

    def begin(self) -> None:
        """Everything runs from now on, and is healed with the site."""
        self.processor.start()
        processes = [*self.shops, *self.proxies, *self.posts]
        for process in processes:
            process.start()
        self.site.cast = processes

    def faults(self) -> dict[str, tuple[int, Callable[[], object]]]:
        """Kinds, weights, and what is done; healing does the rest."""
        found: dict[str, tuple[int, Callable[[], object]]] = {
            "kill -9 of a proxy": (2, lambda: self.proxies[0].kill()),
            "SIGSTOP of a proxy": (3, lambda: self.proxies[1].stop()),
            "proxy without the control database": (2, self._proxy_alone),
            "kill -9 of an application": (2, lambda: self.shops[self.site.plan.seed % 2].kill()),
            "SIGSTOP of an application": (1, lambda: self.shops[0].stop()),
            "kill -9 of the card processor": (2, self._restart_processor),
            "kill -9 of a relay and consumer": (2, lambda: self.posts[0].kill()),
        }
        if self.broker is not None:
            found["kill -9 of the broker"] = (3, self._restart_broker)
        for fault in (Fault.RESET, Fault.DEAF, Fault.DELAY, Fault.BLACKHOLE):
            found[f"line to the broker: {fault.value}"] = (1, lambda fault=fault: self._broker_line(fault))
        return found

    def heal(self) -> None:
        """Lines of proxies and broker as they should be."""
        for lines in (self._proxy_lines, self._line):
            if lines is not None:
                for name in lines.faults:
                    lines.put(name, Fault.NONE)

    def charges(self) -> dict[str, dict[str, list[tuple[str, str]]]]:
        """What the provider did, by flag and key."""
        found: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
        for charge in self.processor.ledger()["charges"]:
            flag, _, key = charge["reference"].partition(":")
            found[flag][key].append((charge["id"], charge["status"]))
        return found

    def effects(self) -> dict[str, int]:
        """How often each payment's event had its effect."""
        with psycopg.connect(self._effects, autocommit=True) as connection:
            return dict(connection.execute("SELECT key, count(*) FROM effect GROUP BY key").fetchall())

    def close(self) -> None:
        """End all of it."""
        for process in (*self.shops, *self.proxies, *self.posts):
            process.close()
        self.processor.kill()
        self.processor.client.close()
        self._proxy_lines.close()
        if self._line is not None:
            self._line.close()
        if self.broker is not None:
            self.broker.stop()
        else:
            self._forget_queues()

    def _broker_url(self) -> str:
        """RabbitMQ where there is one (through a line), every second seed a Valkey that is killed."""
        rabbit = os.environ.get(RABBITMQ_URL, "")
        if rabbit and self.site.plan.seed % 2:
            head, _, tail = rabbit.rpartition("@")
            address, slash, path = tail.partition("/")
            port = int(address.rpartition(":")[2]) if ":" in address else _RABBITMQ_PORT
            self._line = Lines({("post", "broker"): port})
            return f"{head}@127.0.0.1:{self._line.ports['post', 'broker']}{slash}{path}"
        self.broker = EmbeddedValkey(self.site.folder / "valkey").start()
        self._line = Lines({("post", "broker"): self.broker.port})
        return f"redis://127.0.0.1:{self._line.ports['post', 'broker']}/0"

    def _messages(self) -> str:
        """Outbox on both sides of the first flag, effects in a database of their own."""
        for side, role in ((Origin.MONOLITH, APP_MONOLITH), (Origin.EXTRACTED, APP_EXTRACTED)):
            with psycopg.connect(
                make_conninfo(self.site.lanes[0].world.urls[side], user=role), autocommit=True
            ) as connection:
                connection.execute(messaging.schema_sql().encode())
        effects = self.site.create(Origin.MONOLITH, "effects")
        with psycopg.connect(effects, autocommit=True) as connection:
            connection.execute(messaging.schema_sql().encode())
            connection.execute(EFFECTS_SQL.encode())
        return effects

    def _proxy(self, name: str) -> ProvedProcess:
        control = make_conninfo(
            self.site.control_url, host="127.0.0.1", port=str(self._proxy_lines.ports[name, "control"])
        )
        environment = {
            "STRANGLER_LISTEN": f"127.0.0.1:{self.proxy_ports[name]}",
            "STRANGLER_DATABASE_URL": control,
            "STRANGLER_STATE_DIR": str(self.site.folder / name),
            "STRANGLER_PROXY_ID": name,
            "STRANGLER_SIGNING_SECRET": SECRET,
            "STRANGLER_SHADOW": "0",
            "STRANGLER_ACCESS_LOG": "0",
        }
        return ProvedProcess(name, "tests.prove.proxy", [], environment, self.site.folder)

    def _shop(self, side: Origin) -> ProvedProcess:
        port = str(self.site.shop_ports[side])
        return ProvedProcess(
            f"shop_{side.value}", "tests.prove.shop", [side.value, str(self.config), port], {}, self.site.folder
        )

    def _proxy_alone(self) -> None:
        self._proxy_lines.put(("p1", "control"), Fault.BLACKHOLE)

    def _broker_line(self, fault: Fault) -> None:
        assert self._line is not None
        self._line.put(("post", "broker"), fault)

    def _restart_processor(self) -> None:
        self.processor.kill()
        self.processor.start()

    def _restart_broker(self) -> None:
        assert self.broker is not None
        self.broker.kill()
        self.broker.start()

    def _forget_queues(self) -> None:
        from strangler_proxy.contrib.messaging.broker import connect

        with connect(os.environ[RABBITMQ_URL]) as connection:
            channel: Any = connection.channel()
            channel.queue_delete(queue=f"{self._exchange}.effects")
            channel.exchange_delete(exchange=self._exchange)
