"""A real proxy process, settings from the environment; ends with the proof."""

from __future__ import annotations

from strangler_proxy.serve import run
from strangler_proxy.settings import ServeSettings, load
from tests.prove.orphan import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    run(load(ServeSettings))
