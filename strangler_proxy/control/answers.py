"""Values of the verbs as JSON, the same for the CLI's `--output json` and for any other caller."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from strangler_proxy.control.acknowledge import Acknowledgement
from strangler_proxy.control.apply import Applied
from strangler_proxy.control.flip import Flipped
from strangler_proxy.control.status import FlagState, Status
from strangler_proxy.control.why import Explained
from strangler_proxy.core.evidence_gate import Standing
from strangler_proxy.core.flag import Flag
from strangler_proxy.core.flip import next_commands, not_ready, percent
from strangler_proxy.core.ports import AuditEntry, AuditVerdict, Heartbeat, Operation
from strangler_proxy.core.retire import Retired
from strangler_proxy.core.stage import STAGE_TABLE, Origin, Serve, Stage
from strangler_proxy.core.table import RoutingTable
from strangler_proxy.store.documents import cluster_document, flag_document, paused_document, route_document, time_text

SCHEMA_VERSION = 1
Json = dict[str, Any]


def answer(**values: Any) -> Json:
    """A document with its schema version."""
    return {"schema_version": SCHEMA_VERSION, **values}


def flag_answer(flag: Flag) -> Json:
    """A flag with what its stage means."""
    row = STAGE_TABLE[flag.stage]
    unsafe = flag.owner.value if flag.owns_data else _serves(row.unsafe)
    return flag_document(flag) | {
        "safe_served_by": _serves(row.safe),
        "unsafe_served_by": unsafe,
        "mirroring": mirroring_words(flag),
        "mirrored_to": _MIRRORED_TO.get(flag.stage),
    }


_MIRRORED_TO = {
    Stage.SHADOW: Origin.EXTRACTED.value,
    Stage.CANARY: "the other side",
    Stage.EXTRACTED: Origin.MONOLITH.value,
}


def mirroring_words(flag: Flag) -> str:
    """Where how much is mirrored, by stage and declaration; `none` where nothing is."""
    to = _MIRRORED_TO.get(flag.stage)
    if to is None:
        return "none"
    return f"{percent(flag.mirror_sample)} to {to}" if flag.mirror_sample else "none (mirror_sample is 0%)"


def evidence_answer(found: Standing | None) -> Json | None:
    """What the evidence of a flag amounts to; None where its stage mirrors nothing."""
    if found is None:
        return None
    return {
        "verdict": None if found.verdict is None else found.verdict.value,
        "compared": found.compared,
        "eligible": found.eligible,
        "coverage": round(found.coverage, 6),
        "age_seconds": None if found.age_s is None else round(found.age_s, 1),
        "mismatched": list(found.mismatched[:20]),
        "inconclusive": len(found.inconclusive),
        "unseen": len(found.unseen),
        "unproven": found.unproven,
    }


def _serves(serve: Serve) -> str:
    return "by weight" if serve is Serve.BY_WEIGHT else serve.value


def routes_answer(table: RoutingTable) -> list[Json]:
    """All routes, each with the stage of its flag and the addresses behind it."""
    return [
        route_document(route)
        | {
            "stage": table.flags[route.flag].stage.value,
            "endpoints": {
                origin.value: cluster_document(table.clusters[name])["endpoints"]
                for origin, name in route.clusters.items()
            },
        }
        for route in table.routes
    ]


def proxy_answer(proxy: Heartbeat, *, live: bool, now: dt.datetime) -> Json:
    """A proxy's report and how old it is."""
    return {
        "proxy_id": proxy.proxy_id,
        "live": live,
        "revision": proxy.revision,
        "refused_table": proxy.refused_table,
        "upstreams": {kind: list(names) for kind, names in proxy.upstreams.items()},
        "address": proxy.address,
        "holding": dict(proxy.holding),
        "unsafe_in_flight": dict(proxy.unsafe_in_flight),
        "started_at": time_text(proxy.started_at),
        "seen_at": time_text(proxy.seen_at),
        "age_seconds": None if proxy.seen_at is None else round(max(0.0, (now - proxy.seen_at).total_seconds()), 1),
    }


def status_answer(status: Status) -> Json:
    """`strangler status`."""
    now = dt.datetime.now(dt.UTC)
    live = [proxy for proxy in status.proxies if proxy.proxy_id in status.live]
    revision = status.table.revision
    return answer(
        revision=revision,
        default_cluster=status.table.default_cluster.name,
        acknowledged={"by": sum(proxy.revision >= revision for proxy in live), "of": len(live)},
        flags=[_flag_state(state) for state in status.flags],
        proxies=[proxy_answer(proxy, live=proxy.proxy_id in status.live, now=now) for proxy in status.proxies],
    )


def retired_answer(found: Retired | None) -> Json | None:
    """Since when, by whom and why a flag is retired, where its dump is and what became of the old tables."""
    if found is None:
        return None
    return {
        "since": time_text(found.since),
        "by": found.by,
        "reason": found.reason,
        "dump": found.dump,
        "tables": found.tables,
    }


def _flag_state(state: FlagState) -> Json:
    stream = state.stream
    return flag_answer(state.flag) | {
        "stream": {
            "wanted": stream.wanted,
            "mode": stream.mode,
            "source": None if stream.source is None else stream.source.value,
            "lag_seconds": stream.lag_s,
            "stuck": stream.stuck,
            "reported_seconds_ago": None if stream.age_s is None else round(stream.age_s, 1),
            "error": stream.error,
            "paused": None if stream.paused is None else paused_document(stream.paused),
            "missing": list(not_ready(state.flag, stream)),
            "published": state.published,
        }
        if state.flag.owns_data
        else None,
        "evidence": evidence_answer(state.evidence),
        "retired": retired_answer(state.retired),
        "operations": [operation_answer(each) for each in state.operations],
        "next": list(next_commands(state.flag, wanted=stream.wanted)),
    }


def acknowledgement_answer(found: Acknowledgement) -> Json:
    """Who has taken a revision after how long."""
    return {
        "revision": found.revision,
        "complete": found.complete,
        "seconds": round(found.seconds, 4),
        "by": [proxy.proxy_id for proxy in found.taken],
        "missing": [
            {"proxy_id": proxy.proxy_id, "revision": proxy.revision, "refused_table": proxy.refused_table}
            for proxy in found.missing
        ],
        "problem": found.problem,
    }


def flipped_answer(done: Flipped, found: Acknowledgement | None) -> Json:
    """`strangler flip`."""
    return answer(
        flag=done.before.key,
        move=done.flip.move.value,
        changed=done.changed,
        dry_run=done.dry_run,
        before=flag_answer(done.before),
        after=flag_answer(done.after),
        gates=list(done.flip.gates),
        revision=done.revision,
        operation=None if done.operation is None else operation_answer(done.operation),
        acknowledged=None if found is None else acknowledgement_answer(found),
        next=list(next_commands(done.before if done.dry_run else done.after, wanted=done.wanted_stream)),
    )


def applied_answer(done: Applied, found: Acknowledgement | None) -> Json:
    """`strangler apply`."""
    return answer(
        flags=list(done.flags),
        changes=[dataclasses.asdict(change) | {"text": str(change)} for change in done.changes],
        dry_run=done.dry_run,
        changed=done.revision != done.revision_before,
        revision_before=done.revision_before,
        revision=done.revision,
        unmentioned=list(done.unmentioned),
        acknowledged=None if found is None else acknowledgement_answer(found),
    )


def operation_answer(operation: Operation) -> Json:
    """An operation with its steps."""
    return {
        "id": operation.id,
        "kind": operation.kind,
        "flag": operation.flag,
        "args": dict(operation.args),
        "by": operation.by,
        "reason": operation.reason,
        "status": operation.status,
        "detail": operation.detail,
        "steps": [dict(step) for step in operation.steps],
        "requested_at": time_text(operation.requested_at),
        "finished_at": time_text(operation.finished_at),
    }


def entry_answer(entry: AuditEntry) -> Json:
    """An audit entry, whole."""
    return {
        "id": entry.id,
        "at": time_text(entry.at),
        "actor": entry.actor,
        "verb": entry.verb,
        "subject": entry.subject,
        "reason": entry.reason,
        "before": dict(entry.before),
        "after": dict(entry.after),
        "revision": entry.revision,
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def verdict_answer(verdict: AuditVerdict) -> Json:
    """`strangler audit verify`."""
    return answer(
        entries=verdict.entries,
        intact=verdict.broken_at is None and not verdict.problem,
        broken_at=verdict.broken_at,
        problem=verdict.problem,
    )


def explained_answer(table: RoutingTable, found: Explained) -> Json:
    """`strangler why`."""
    decision = found.decision
    cluster = table.default_cluster if decision is None else decision.cluster
    return answer(
        revision=table.revision,
        path=found.path,
        route=None if found.route is None else route_document(found.route.route),
        flag=None if found.route is None else flag_answer(found.route.flag),
        bucket=found.bucket,
        refused=found.refused or (decision.refuse.value if decision is not None and decision.refuse else ""),
        refused_status=found.refused_status or (503 if decision is not None and decision.refuse else 0),
        serve=None if decision is None else decision.serve.value,
        cluster="" if found.refused else cluster.name,
        endpoints=[] if found.refused else [str(endpoint) for endpoint in cluster.endpoints],
        reason="malformed target"
        if found.refused
        else "no route matches"
        if decision is None
        else decision.reason.value,
        hold=decision is not None and decision.hold,
        considerations=[dataclasses.asdict(step) for step in found.considerations],
    )
