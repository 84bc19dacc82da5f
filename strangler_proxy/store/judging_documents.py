"""What a flag declares about judging as a JSON document and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from strangler_proxy.core.judging import COVERAGE, FRESH_S, Judging
from strangler_proxy.core.rule_form import read_rule, rule_document
from strangler_proxy.core.verdict import Demands


def judging_document(judging: Judging) -> dict[str, Any]:
    """Empty where nothing is declared, so that audit entries of other flags stay short."""
    if judging == Judging():
        return {}
    return {
        "rules": [rule_document(rule) for rule in judging.rules],
        "required": judging.required,
        "fresh_s": judging.fresh_s,
        "coverage": judging.coverage,
        "demands": asdict(judging.demands),
        "routes": {name: asdict(demands) for name, demands in judging.routes.items()},
    }


def judging_from(document: Mapping[str, Any]) -> Judging:
    """Raises KeyError, TypeError or ValueError for another form.

    >>> judging_from(judging_document(Judging(required=True))).required
    True
    """
    return Judging(
        rules=tuple(read_rule(each) for each in document.get("rules", ())),
        required=bool(document.get("required", False)),
        fresh_s=float(document.get("fresh_s", FRESH_S)),
        coverage=float(document.get("coverage", COVERAGE)),
        demands=Demands(**document.get("demands", {})),
        routes={name: Demands(**demands) for name, demands in document.get("routes", {}).items()},
    )
