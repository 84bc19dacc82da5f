"""Clients of the proxies: each pays with a key, and goes on with it, through any proxy, until it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.prove.history import History
from tests.prove.writers import Writer

PERSON = 12
"""Nobody else's."""


class Payer(Writer):
    """One thread; some of its requests repeat a key that was answered before."""

    def __init__(
        self, lane: Mapping[str, Any], history: History, proxies: Sequence[str], seed: int, begun: int
    ) -> None:
        super().__init__(lane["urls"], history, 9, seed, begun)
        self.name = "payer"
        self._flag = lane["flag"]
        self._proxies = proxies
        self._paid: list[str] = []

    def run(self) -> None:
        """Pay, and sometimes ask again."""
        with httpx.Client(timeout=httpx.Timeout(8.0, connect=1.0), trust_env=False) as http:
            while not self._stop.is_set():
                again = bool(self._paid) and self._chance.random() < 0.2
                key = self._chance.choice(self._paid[-30:]) if again else self._key()
                self._pay(http, key)
                if not again:
                    self._paid.append(key)
                self._stop.wait(self._chance.uniform(0.05, 0.4))

    def _pay(self, http: httpx.Client, key: str) -> None:
        self._history.say(self.name, "pay", "invoke", key=key, person=PERSON)
        while True:
            answer = self._asked(http, key)
            if answer is not None and answer.status_code == 201:
                charge = json.loads(answer.text).get("charge")
                self._history.say(self.name, "pay", "ok", key=key, person=PERSON, answer=answer.text, charge=charge)
                return
            if answer is not None and answer.status_code == 409:
                self._history.say(self.name, "crash", "info", error=f"a fenced answer came out: {answer.text[:200]}")
            said = "no answer" if answer is None else f"{answer.status_code} {answer.text[:120]}"
            self._history.say(self.name, "pay", "info", key=key, person=PERSON, said=said)
            time.sleep(self._chance.uniform(0.05, 0.4))

    def _asked(self, http: httpx.Client, key: str) -> httpx.Response | None:
        try:
            return http.post(
                f"{self._chance.choice(self._proxies)}/{self._flag}/pay",
                json={"key": key, "person": PERSON},
                headers={"Idempotency-Key": key},
            )
        except httpx.HTTPError:
            return None
