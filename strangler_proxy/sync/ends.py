"""Connections to both databases of a flag and its layout, for work that is not the stream's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.stage import Origin
from strangler_proxy.sync.layout import Layout, read_layout
from strangler_proxy.sync.link import Link, close, connect, within

READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """Both databases."""

    manifest: Manifest
    layout: Layout
    links: Mapping[Origin, Link]

    @property
    def all(self) -> tuple[Link, ...]:
        """Both connections, for `within`."""
        return tuple(self.links.values())


@asynccontextmanager
async def both_ends(manifest: Manifest, urls: Mapping[Origin, str], application: str) -> AsyncGenerator[Both]:
    """Connect and read the layout. Raises DataUnavailable, DeclarationError."""
    links: dict[Origin, Link] = {}
    try:
        for origin in Origin:
            links[origin] = await connect(urls[origin], application=application)
        layout = await within(READ_TIMEOUT_S, read_layout(manifest, links), *links.values())
        yield Both(manifest=manifest, layout=layout, links=links)
    finally:
        await close(*links.values())
