"""Calls about shadow mode: its report, samples, rules, export and import."""

from __future__ import annotations

import datetime as dt
import difflib

import structlog

from strangler_proxy.control.answers import Json, answer
from strangler_proxy.control.known import flag_of
from strangler_proxy.control.problems import CallRefused
from strangler_proxy.control.shadow import (
    SAMPLE_PAGE,
    add_rule,
    bounded,
    named_samples,
    one_sample,
    reckon,
    rules_document,
    take_in,
    trial,
)
from strangler_proxy.control.shadow_bodies import ExpireBody, ImportBody, RuleBody
from strangler_proxy.control.verbs import Call
from strangler_proxy.core.errors import DeclarationError
from strangler_proxy.core.evidence_lines import Lines, tally_lines
from strangler_proxy.core.rule_form import rule_document
from strangler_proxy.core.rules import Rule

_log = structlog.get_logger()


async def show_report(call: Call) -> Json:
    """`GET /v1/flags/KEY/shadow?since=TIME&samples=N`: the report (docs/reference/shadow-report.schema.json)."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    judging = await call.store.manifests.judging(flag.key)
    rules = await call.store.evidence.rules(flag.key)
    found = await reckon(
        call.store.evidence,
        flag.key,
        title=flag.key,
        rules=rules,
        demands=judging.by_route,
        now=dt.datetime.now(dt.UTC),
        since=_time(call, "since"),
    )
    wanted = int(call.number("samples", 0, 500))
    samples = await named_samples(call.store.evidence, flag.key, found.report, wanted)
    return answer(
        flag=flag.key,
        stage=flag.stage.value,
        report=found.report.document(),
        samples=[each.document() for each in samples],
    )


async def list_samples(call: Call) -> Json:
    """`GET /v1/flags/KEY/shadow/samples?limit=N&path=P&before_at=TIME&before_id=ID`: a page, newest first."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    at = _time(call, "before_at")
    found = await call.store.evidence.samples(
        flag.key,
        limit=max(1, int(call.number("limit", SAMPLE_PAGE, 500))),
        path=call.query.get("path", ""),
        before=None if at is None else (at, call.query.get("before_id", "")),
    )
    kept = bounded(found)
    last = kept[-1] if kept else None
    return answer(
        flag=flag.key,
        samples=[each.document() for each in kept],
        before=None if last is None else {"at": last.at.astimezone(dt.UTC).isoformat(), "id": last.id},
    )


async def show_sample(call: Call) -> Json:
    """`GET /v1/shadow/samples/ID`: one comparison that was kept, redacted."""
    return answer(sample=(await one_sample(call.store.evidence, call.path["id"])).document())


async def list_tallies(call: Call) -> Json:
    """`GET /v1/flags/KEY/shadow/tallies`: as lines of an export."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    tallies = await call.store.evidence.tallies(flag.key)
    return answer(flag=flag.key, lines=[line for tally in reversed(tallies) for line in tally_lines(tally)])


async def import_lines(call: Call) -> Json:
    """`POST /v1/flags/KEY/shadow/import`. All lines of a call are read before anything is kept."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    body = call.read(ImportBody)
    lines = Lines(into=flag.key)
    problems = []
    for number, line in enumerate(body.lines, start=1):
        try:
            lines.take(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise DeclarationError(problems[:20])
    strata, samples = await take_in(
        call.store.evidence, flag.key, lines, writer=body.writer, by=call.actor, reason=body.reason
    )
    _log.info("shadow.imported", flag=flag.key, strata=strata, samples=samples, by=call.actor)
    return answer(flag=flag.key, strata=strata, samples=samples)


async def list_rules(call: Call) -> Json:
    """`GET /v1/flags/KEY/shadow/rules`: all rules, expired ones included, with what is wrong with them."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    declared = (await call.store.manifests.judging(flag.key)).rules
    rules = await call.store.evidence.rules(flag.key)
    tallies = await call.store.evidence.tallies(flag.key)
    return answer(flag=flag.key, rules=rules_document(rules, [each.id for each in declared], tallies, _today()))


async def add_flag_rule(call: Call) -> Json:
    """`POST /v1/flags/KEY/shadow/rules`. Audited."""
    flag, rule = await _flag_and_rule(call)
    rule = await add_rule(call.store.evidence, flag, rule, by=call.actor, today=_today())
    _log.info("shadow.rule_added", flag=flag, rule=rule.id, by=call.actor)
    listed = await list_rules(call)
    return answer(flag=flag, rule=next(each for each in listed["rules"] if each["id"] == rule.id))


async def try_flag_rule(call: Call) -> Json:
    """`POST /v1/flags/KEY/shadow/rules/test`: what the rule would cover of the newest samples. Changes nothing."""
    flag, rule = await _flag_and_rule(call)
    found = await trial(call.store.evidence, flag, rule, _today())
    return answer(flag=flag, rule=rule_document(rule), trial=found.document())


async def expire_flag_rule(call: Call) -> Json:
    """`POST /v1/flags/KEY/shadow/rules/ID/expire`. Audited."""
    flag = flag_of(await call.store.records.table(), call.path["key"])
    body = call.read(ExpireBody)
    on = body.day(_today())
    await call.store.evidence.expire_rule(flag.key, call.path["rule"], on, by=call.actor, reason=body.reason)
    _log.info("shadow.rule_expired", flag=flag.key, rule=call.path["rule"], on=on.isoformat(), by=call.actor)
    return answer(flag=flag.key, rule=call.path["rule"], expires_on=on.isoformat())


async def _flag_and_rule(call: Call) -> tuple[str, Rule]:
    """A flag's key and the rule of the body. Raises UnknownName, DeclarationError for a route that the flag has not."""
    table = await call.store.records.table()
    flag = flag_of(table, call.path["key"])
    rule = call.read(RuleBody).rule()
    routes = [route.name for route in table.routes if route.flag == flag.key]
    if rule.route and not rule.route.startswith("/") and rule.route not in routes:
        close = difflib.get_close_matches(rule.route, routes, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise DeclarationError(
            [f'flag "{flag.key}" has no route "{rule.route}"{hint} (a path template begins with "/")']
        )
    return flag.key, rule


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _time(call: Call, name: str) -> dt.datetime | None:
    """A time of the query (ISO 8601 with an offset)."""
    text = call.query.get(name)
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CallRefused(400, "bad_query", f'{name} "{text}" is not a time with an offset', exit_code=2)
    return found
