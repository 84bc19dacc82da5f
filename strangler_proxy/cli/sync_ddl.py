"""`strangler sync manifest ddl`: the statements that make the moved tables at the service."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strangler_proxy.cli.output import SCHEMA_VERSION, Format, OutputOption, is_json, say, say_next, show
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.stage import Origin

if TYPE_CHECKING:
    from strangler_proxy.core.manifest import Manifest
    from strangler_proxy.sync.definition import Definitions

READ_TIMEOUT_S = 30.0


def manifest_ddl(
    flag: Annotated[str, typer.Argument(help="The flag's key: its capability file says what moves.")],
    foreign_keys: Annotated[
        bool, typer.Option("--foreign-keys", help="The foreign keys between moved tables instead, for a live copy.")
    ] = False,
    files: Annotated[
        Path | None, typer.Option("--file", help="Capability file, or a folder of them (else STRANGLER_PLANS_DIR).")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print the SQL that makes the moved tables at the service, from how the monolith's database has them now.

    Reads STRANGLER_DATA_URL__NAME of the monolith's database, and changes nothing.

    Example: strangler sync manifest ddl CAPABILITY | psql SERVICE
    """
    from strangler_proxy.sync.ddl import foreign_keys_sql, tables_sql

    manifest = _declared(flag, files)
    definitions = asyncio.run(_definitions(manifest))
    text = foreign_keys_sql(definitions) if foreign_keys else tables_sql(definitions)
    if is_json():
        show({"schema_version": SCHEMA_VERSION, "flag": flag, "sql": text})
    else:
        typer.echo(text, nl=False)
    count = text.count("-- Left out: ")
    say(f"{len(definitions.tables)} tables; {count or 'nothing'} left out" + (", see the comments" if count else ""))
    say_next(f"strangler sync status {flag}" if foreign_keys else f"strangler sync start {flag}")


def _declared(flag: str, files: Path | None) -> Manifest:
    from strangler_proxy.plan.plans import load_plans, named_variables, read_files
    from strangler_proxy.settings import ClientSettings, load

    sources = read_files([files or load(ClientSettings).plans_dir])
    environment = {name: os.environ[name] for name in named_variables(sources) if name in os.environ}
    found = {each.key: each for each in load_plans(sources, environment).capabilities}
    if flag not in found:
        raise DeclarationError([f'no capability file declares the flag "{flag}": there are {", ".join(sorted(found))}'])
    manifest = found[flag].manifest
    if manifest is None:
        raise DeclarationError([f'flag "{flag}" owns no data: its file has no section [data]'])
    return manifest


async def _definitions(manifest: Manifest) -> Definitions:
    from strangler_proxy.settings import data_urls
    from strangler_proxy.sync.definition import read_definitions
    from strangler_proxy.sync.link import DataUnavailable, close, connect, within

    name = manifest.databases[Origin.MONOLITH]
    url = data_urls().get(name.lower())
    if url is None:
        raise DataUnavailable(f"STRANGLER_DATA_URL__{name.upper()} is not set: the monolith's database is read")
    link = await connect(url, application=f"strangler ddl {manifest.flag}"[:63])
    try:
        return await within(READ_TIMEOUT_S, read_definitions(manifest, link), link)
    finally:
        await close(link)
