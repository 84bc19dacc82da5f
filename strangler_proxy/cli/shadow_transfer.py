"""`strangler shadow export | import`: evidence as lines of JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from strangler_proxy.cli.options import EvidenceOption, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, say_next, show
from strangler_proxy.cli.shadow_source import Source, source_of
from strangler_proxy.core.errors import DeclarationError, StranglerError
from strangler_proxy.core.evidence_lines import LONGEST_LINE, Lines, head_line, sample_line

MOST_LINES: Final = 500_000
PROBLEMS: Final = 20
_CHUNK_BYTES: Final = 3_000_000
_CHUNK_LINES: Final = 1_000


def export(
    first: Annotated[str, typer.Argument(metavar="[FLAG]", help="The flag's key (not needed with --evidence).")],
    second: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to: FILE.jsonl.")] = None,
    evidence: EvidenceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Write a flag's evidence, tallies and samples, to a file: one JSON object a line, redacted as it is kept.

    Example: strangler shadow export CAPABILITY evidence.jsonl
    """
    flag, file = (None, Path(first)) if second is None else (first, second)
    if flag is None and evidence is None:
        raise DeclarationError(["name the flag and the file: strangler shadow export FLAG FILE.jsonl"])
    tallies = samples = 0
    with source_of(flag, evidence) as source, _whole(file) as write:
        write(head_line(source.flag, dt.datetime.now(dt.UTC)))
        for line in source.tally_lines():
            write(line)
            tallies += 1
        for sample in source.samples():
            write(sample_line(sample))
            samples += 1
        document = {"schema_version": 1, "flag": source.flag, "file": str(file), "samples": samples,
                    "tally_lines": tallies}  # fmt: skip
    show(document, f"{file}: {tallies} lines of tallies, {samples} samples")
    say_next(f"strangler shadow import {shlex.quote(str(file))} --evidence NEW.sqlite")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    flag: Annotated[str | None, typer.Option("--flag", help="Import it as evidence of this flag.")] = None,
    evidence: EvidenceOption = None,
    reason: ReasonOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Add exported evidence to the control plane's (audited), or to a file, which is made if need be.

    All of it is read before any of it is kept. The same file again counts once.

    Example: strangler shadow import evidence.jsonl --flag CAPABILITY --reason "run of last night"
    """
    flags, digest = _check(file)
    if flag is None and len(flags) > 1:
        raise DeclarationError([f"{file} holds evidence of {', '.join(sorted(flags))}: name one with --flag"])
    into = flag if flag is not None else next(iter(flags), "")
    writer = f"import:{digest}"
    strata = samples = 0
    target = into if evidence is None or into else None
    if evidence is None and not into:
        raise DeclarationError([f"{file} names no flag: say with --flag whose evidence it is"])
    with source_of(target, evidence, create=True) as source:
        for chunk in _chunks(file):
            some = source.take_in(chunk, writer=writer, reason=reason)
            strata, samples = strata + some[0], samples + some[1]
        _tell(source, file, strata, samples)


def _tell(source: Source, file: Path, strata: int, samples: int) -> None:
    document = {"schema_version": 1, "flag": source.flag, "file": str(file), "strata": strata, "samples": samples}
    show(document, f"{file}: {strata} strata and {samples} samples were imported")
    say_next(f"strangler shadow report {shlex.join(source.where)}")


def _check(file: Path) -> tuple[set[str], str]:
    """Read every line once and keep nothing; the flags it names and a digest. Raises DeclarationError with places."""
    lines, problems, digest = Lines(), [], hashlib.sha256()
    flags: set[str] = set()
    for number, line in _lines(file):
        digest.update(line.encode("utf-8", "surrogatepass"))
        try:
            lines.take(line)
        except ValueError as error:
            problems.append(f"{file}:{number}: {error}")
            if len(problems) >= PROBLEMS:
                problems.append(f"{file}: more is wrong further on")
                break
        flags |= lines.flags
        lines.samples.clear()
        lines.tallies.clear()
    if not problems and not flags:
        problems.append(f"{file}: holds no evidence")
    if problems:
        raise DeclarationError(problems)
    return flags, digest.hexdigest()[:24]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with file.open("rb") as opened:
            for number in range(1, MOST_LINES + 2):
                line = opened.readline(LONGEST_LINE + 2)
                if not line:
                    return
                if number > MOST_LINES:
                    raise DeclarationError([f"{file}:{number}: a file has at most {MOST_LINES} lines"])
                if len(line) > LONGEST_LINE:
                    raise DeclarationError([f"{file}:{number}: the line is longer than {LONGEST_LINE} bytes"])
                if line.strip():
                    try:
                        yield number, line.decode("utf-8").strip()
                    except UnicodeDecodeError:
                        raise DeclarationError([f"{file}:{number}: not UTF-8"]) from None
    except OSError as error:
        raise DeclarationError([f"{file}: cannot be read: {error.strerror or error}"]) from None


def _chunks(file: Path) -> Iterator[list[str]]:
    """Lines in parts that one call takes; each has the head, and before strata the totals that they belong to."""
    head = totals = ""
    part: list[str] = []
    spent = 0
    for _, line in _lines(file):
        kind = json.loads(line)["type"]
        if kind == "head":
            head = head or line
            continue
        if part and (kind == "tally" or spent + len(line) > _CHUNK_BYTES or len(part) >= _CHUNK_LINES):
            yield [head, *part]
            part, spent = [], 0
        if kind == "tally":
            totals = line
        elif kind == "stratum" and not part:
            part.append(totals)
        part.append(line)
        spent += len(line)
    if part:
        yield [head, *part]


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[Callable[[str], object]]:
    """A file that is there whole, or not at all. Raises StranglerError."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
        with open(descriptor, "w", encoding="utf-8") as opened:
            yield lambda line: opened.write(f"{line}\n")
        Path(temporary).replace(file)
    except OSError as error:
        raise StranglerError(f"{file} cannot be written: {os.strerror(error.errno or 0)}") from error
    finally:
        with contextlib.suppress(OSError):
            if temporary:
                Path(temporary).unlink()
