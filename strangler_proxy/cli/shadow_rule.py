"""`strangler shadow rule add | list | expire | test`."""

from __future__ import annotations

import datetime as dt
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from strangler_proxy.cli.live_names import flag_names
from strangler_proxy.cli.options import EvidenceOption, ReasonOption
from strangler_proxy.cli.output import Format, OutputOption, grid, pairs, say, say_next, show
from strangler_proxy.cli.shadow_source import Source, source_of
from strangler_proxy.core.errors import DeclarationError

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="What may differ: rules with an owner, a reason and an end.",
    pretty_exceptions_enable=False,
)

_TOLERANCE = re.compile(r"(?P<number>\d{1,30}(?:\.\d{1,30})?)(?P<unit>%|s|m|h)?|(?P<scale>\d{1,2})\s*decimals?")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3_600.0}

FlagOrNone = Annotated[str | None, typer.Argument(metavar="[FLAG]", help="The flag's key.", autocompletion=flag_names)]
PathOption = Annotated[
    str, typer.Option("--path", help="Where: order.items[].price, header.etag, cookie.sid.value; * a step, ** any.")
]
IgnoreOption = Annotated[bool, typer.Option("--ignore", help="Whatever differs there (or only kinds: --kind).")]
KindOption = Annotated[
    list[str] | None, typer.Option("--kind", help="With --ignore: missing, extra, type, value, order, length, error.")
]
ToleranceOption = Annotated[
    str | None,
    typer.Option("--tolerance", help="Numbers that are near: 0.01, 1%, `2 decimals`; times that are: 5s, 2m, 1h."),
]
UnorderedOption = Annotated[bool, typer.Option("--unordered", help="Items of the array in any order.")]
KeyedOption = Annotated[
    str | None, typer.Option("--keyed", metavar="FIELD", help="Items of the array are paired by this field.")
]
AliasOption = Annotated[
    str | None,
    typer.Option("--alias", metavar="NAME", help="Two names of one thing, as long as they stay one to one."),
]
CompareOption = Annotated[bool, typer.Option("--compare", help="Compare a header that is left out by default.")]
RouteOption = Annotated[
    str, typer.Option("--route", help="A route's name or a path template; every route of the flag without it.")
]
IdOption = Annotated[str, typer.Option("--id", help="The rule's name (one is made from what it says).")]


@app.command()
def add(
    path: PathOption,
    owner: Annotated[str, typer.Option("--owner", help="Who answers for the rule.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why it may differ.")],
    expires: Annotated[str, typer.Option("--expires", metavar="DATE", help="The first day on which it ends.")],
    flag: FlagOrNone = None,
    evidence: EvidenceOption = None,
    ignore: IgnoreOption = False,
    kind: KindOption = None,
    tolerance: ToleranceOption = None,
    unordered: UnorderedOption = False,
    keyed: KeyedOption = None,
    alias: AliasOption = None,
    compare: CompareOption = False,
    route: RouteOption = "",
    rule_id: IdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """Add a rule. Comparing starts anew with it: evidence of before is stale.

    Try it first with `strangler shadow rule test`. A file of evidence that is not there is made, for rules that are
    to hold from the first pair on.

    Example: strangler shadow rule add CAPABILITY --path items[].at --tolerance 2s --owner TEAM --reason clocks
    --expires 2027-03-31
    """
    rule = _rule(
        path=path, owner=owner, reason=reason, expires=expires, ignore=ignore, kind=kind, tolerance=tolerance,
        unordered=unordered, keyed=keyed, alias=alias, compare=compare, route=route, rule_id=rule_id,
    )  # fmt: skip
    is_new = evidence is not None and ":" not in evidence and not Path(evidence).exists()
    with source_of(flag, evidence, create=True) as source:
        added = source.add_rule(rule)
        if is_new:
            say(f"{evidence} was not there and is new: serve with --evidence {shlex.quote(str(evidence))}")
        show({"schema_version": 1, "rule": added}, _rule_words(added))
        _warn([added])
        say_next(f"strangler shadow rule list {shlex.join(source.where)}")


@app.command("test")
def try_out(
    path: PathOption,
    flag: FlagOrNone = None,
    evidence: EvidenceOption = None,
    ignore: IgnoreOption = False,
    kind: KindOption = None,
    tolerance: ToleranceOption = None,
    unordered: UnorderedOption = False,
    keyed: KeyedOption = None,
    alias: AliasOption = None,
    compare: CompareOption = False,
    route: RouteOption = "",
    owner: Annotated[str, typer.Option("--owner", help="As for `add`; not needed here.")] = "nobody yet",
    reason: Annotated[str, typer.Option("--reason", "-r", help="As for `add`; not needed here.")] = "a trial",
    expires: Annotated[str, typer.Option("--expires", metavar="DATE", help="As for `add`; not needed here.")] = "",
    rule_id: IdOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """What a rule would cover of the samples that were kept, before it counts. Changes nothing.

    Example: strangler shadow rule test CAPABILITY --path items[].price --tolerance 0.01
    """
    rule = _rule(
        path=path, owner=owner, reason=reason, expires=expires or "2999-01-01", ignore=ignore, kind=kind,
        tolerance=tolerance, unordered=unordered, keyed=keyed, alias=alias, compare=compare, route=route,
        rule_id=rule_id,
    )  # fmt: skip
    with source_of(flag, evidence) as source:
        found = source.test_rule(rule)
        show({"schema_version": 1, "rule": rule, "trial": found}, *_trial_words(found))
        _say_trial(found, source)


@app.command("list")
def list_rules(flag: FlagOrNone = None, evidence: EvidenceOption = None, output: OutputOption = Format.TABLE) -> None:
    """All rules of a flag: what they allow, who answers for them, until when, what they covered, what is wrong.

    Example: strangler shadow rule list CAPABILITY
    """
    with source_of(flag, evidence) as source:
        rules = source.rules()
        show({"schema_version": 1, "flag": source.flag, "rules": rules}, _rules_table(rules))
        if not rules:
            say("there are no rules: whatever differs is a difference")
        _warn(rules)


@app.command()
def expire(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule's id.")],
    flag: Annotated[str | None, typer.Option("--flag", help="The flag's key.", autocompletion=flag_names)] = None,
    evidence: EvidenceOption = None,
    on: Annotated[str, typer.Option("--on", metavar="DATE", help="The day it ends; today without it.")] = "",
    reason: ReasonOption = "",
    output: OutputOption = Format.TABLE,
) -> None:
    """End a rule that was added by hand. It stays in the list, and covers nothing any more.

    Example: strangler shadow rule expire items-at --flag CAPABILITY --reason "fixed"
    """
    day = _date(on, "--on") if on else dt.datetime.now(dt.UTC).date()
    with source_of(flag, evidence) as source:
        source.expire_rule(rule, day, reason)
        document = {"schema_version": 1, "flag": source.flag, "rule": rule, "expires_on": day.isoformat()}
        show(document, f"rule {rule} ends on {day}")
        say_next(f"strangler shadow report {shlex.join(source.where)}")


def _rule(
    *, path: str, owner: str, reason: str, expires: str, ignore: bool, kind: list[str] | None, tolerance: str | None,
    unordered: bool, keyed: str | None, alias: str | None, compare: bool, route: str, rule_id: str,
) -> Json:  # fmt: skip
    """The rule that options say, as the control plane takes it. Raises DeclarationError."""
    chosen = {
        "ignore": ignore,
        "tolerance": tolerance is not None,
        "unordered": unordered,
        "keyed": keyed is not None,
        "alias": alias is not None,
        "compare": compare,
    }
    said = [name for name, given in chosen.items() if given]
    problems = []
    if len(said) != 1:
        problems.append(
            f"give one of {', '.join(f'--{name}' for name in chosen)}; {', '.join(said) or 'none'} was given"
        )
    if kind and not ignore:
        problems.append("--kind goes with --ignore")
    if problems:
        raise DeclarationError(problems)
    return {
        "id": rule_id,
        "kind": said[0],
        "path": path,
        "owner": owner,
        "reason": reason,
        "expires_on": _date(expires, "--expires").isoformat(),
        "route": route,
        "kinds": kind or [],
        "key": keyed or "",
        "alias": alias or "",
        **_bounds(tolerance),
    }


def _bounds(text: str | None) -> Json:
    bounds: Json = {"absolute": None, "relative": None, "scale": None, "skew_s": None}
    if text is None:
        return bounds
    found = _TOLERANCE.fullmatch(text.strip())
    if found is None:
        raise DeclarationError([f'--tolerance "{text}": give 0.01, 1%, "2 decimals", 5s, 2m or 1h'])
    if found["scale"]:
        return bounds | {"scale": int(found["scale"])}
    if found["unit"] == "%":
        from decimal import Decimal

        return bounds | {"relative": format(Decimal(found["number"]) / 100, "f")}
    if found["unit"]:
        return bounds | {"skew_s": float(found["number"]) * _UNIT_S[found["unit"]]}
    return bounds | {"absolute": found["number"]}


def _date(text: str, option: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise DeclarationError([f'{option} "{text}" is no date: give it as 2027-03-31']) from None


def allows(rule: Json) -> str:
    """What a rule allows, in a few words.

    >>> allows({"kind": "tolerance", "absolute": "0.01", "relative": None, "scale": None, "skew_s": None})
    'within 0.01'
    """
    match rule["kind"]:
        case "ignore":
            return f"ignored ({', '.join(rule['kinds'])})" if rule["kinds"] else "ignored"
        case "tolerance":
            return " or ".join(_bound_words(rule))
        case "keyed":
            return f"items paired by {rule['key']}"
        case "alias":
            return f"another name, one to one ({rule['alias'] or rule['id']})"
        case "unordered":
            return "items in any order"
    return "compared"


def _bound_words(rule: Json) -> list[str]:
    said = []
    if rule["absolute"] is not None:
        said.append(f"within {rule['absolute']}")
    if rule["relative"] is not None:
        said.append(f"within {float(rule['relative']) * 100:g} %")
    if rule["scale"] is not None:
        said.append(f"equal to {rule['scale']} decimals")
    if rule["skew_s"] is not None:
        said.append(f"within {rule['skew_s']:g} s")
    return said


def _rules_table(rules: list[Json]) -> Any:
    table = grid("RULE", "PATH", "ALLOWS", "ROUTE", "OWNER", "ENDS", "COVERED", "FROM", "REASON", "WRONG")
    for rule in rules:
        wrong = ", ".join(each["trouble"] for each in rule["findings"])
        table.add_row(
            Text(rule["id"], style="bold"),
            Text(rule["path"]),
            Text(allows(rule)),
            Text(rule["route"] or "all"),
            Text(rule["owner"]),
            Text(rule["expires_on"], style="" if rule["counts"] else "red"),
            f"{rule['covered']:,}",
            "capability file" if rule["source"] == "declared" else "added",
            Text(rule["reason"]),
            Text(wrong or "-", style="yellow" if wrong else ""),
        )
    return table


def _rule_words(rule: Json) -> Any:
    return pairs(
        ("rule", rule["id"]), ("path", rule["path"]), ("allows", allows(rule)), ("route", rule["route"] or "all"),
        ("owner", rule["owner"]), ("reason", rule["reason"]), ("ends", rule["expires_on"]),
    )  # fmt: skip


def _warn(rules: list[Json]) -> None:
    for rule in rules:
        for each in rule["findings"]:
            say(f'rule "{rule["id"]}" {each["trouble"]}: {each["detail"]}')


def _trial_words(found: Json) -> list[Any]:
    counts = pairs(
        ("samples tried", f"{found['samples']:,} ({found['other_routes']:,} more are of other routes)"),
        ("with open differences", f"{found['differing']:,}"),
        ("would be settled", f"{found['settled']:,}, of which {found['confirmed_settled']:,} confirmed mismatches"),
        ("not touched", f"{found['unmatched']:,}"),
    )
    table = grid("PATH", "KIND", "COVERED", "LEFT", "UNKNOWN")
    for each in found["paths"]:
        table.add_row(Text(each["path"]), each["kind"], *(f"{each[name]:,}" for name in ("covered", "left", "unknown")))
    parts = [counts, *(["", table] if found["paths"] else [])]
    if found["hidden"]:
        hidden = grid("WOULD HIDE", "KIND", "CONTROL", "CANDIDATE", "SAMPLE")
        for each in found["hidden"]:
            hidden.add_row(
                Text(each["path"], style="red"), each["kind"], Text(each["control"] or "-", style="cyan"),
                Text(each["candidate"] or "-", style="magenta"), each["sample"],
            )  # fmt: skip
        parts += ["", hidden]
    return parts


def _say_trial(found: Json, source: Source) -> None:
    for note in found["notes"]:
        say(f"note: {note}")
    if not found["samples"]:
        say("there is no sample to try it on")
        say_next(f"strangler shadow report {shlex.join(source.where)}")
    elif not any(each["covered"] or each["unknown"] for each in found["paths"]):
        say("the rule would cover nothing of what was kept: look at the path")
    if found["hidden"]:
        say(f"it would hide {found['confirmed_settled']} confirmed mismatches: look at each before adding it")
        where = shlex.join(source.where[:2]) if source.where[0] == "--evidence" else ""
        say_next(f"strangler shadow show {found['hidden'][0]['sample']} {where}".rstrip())
