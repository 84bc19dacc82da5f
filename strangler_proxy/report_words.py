"""How a report's document says things to people: the same words in the terminal and on the page.

Input is the document of docs/reference/shadow-report.schema.json, so that a file renders as well as a fresh report.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = Mapping[str, Any]

VERDICTS: Final = ("mismatched", "inconclusive", "matched")
"""The worst first."""

LEGEND: Final[Mapping[str, str]] = {
    "mismatched": "at least one difference stayed when both sides were asked again, and no rule or noise covers it",
    "inconclusive": "not enough evidence yet, or it is stale; it says what is missing",
    "matched": "the mismatch rate is under the limit with enough requests and time, for what was compared",
}


def printable(value: object, longest: int = 200) -> str:
    r"""Text of others, safe on a terminal: controls and invisible characters are escaped, the rest cut.

    >>> printable("a\x1b[2Jb\nc"), printable("x" * 9, 6)
    ('a\\x1b[2Jb\\nc', 'xxx...')
    """
    text = str(value)
    if len(text) > longest:
        text = text[: max(0, longest - 3)] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0), percent(0.00004), percent(0.0123), percent(0.9996), percent(1)
    ('0 %', '< 0.01 %', '1.23 %', '99.96 %', '100 %')
    """
    if share <= 0:
        return "0 %"
    if share < 0.0001:
        return "< 0.01 %"
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + " %"


def hours(seconds: float) -> str:
    """A time to wait, rough.

    >>> hours(30), hours(1_500), hours(8_000), hours(400_000)
    ('less than a minute', 'about 25 min', 'about 2.2 h', 'about 5 days')
    """
    if seconds < 60:
        return "less than a minute"
    if seconds < 3_600:
        return f"about {round(seconds / 60)} min"
    if seconds < 172_800:
        return f"about {round(seconds / 3_600, 1):g} h"
    return f"about {round(seconds / 86_400):,} days"


def stratum_name(stratum: Json, longest: int = 160) -> str:
    """`GET /items/{id} 2xx guest application/json`, printable."""
    who = "signed in" if stratum["signed_in"] else "guest"
    parts = (
        printable(stratum["method"], 60),
        printable(stratum["path_template"], longest),
        printable(stratum["status_class"], 20),
        who,
        printable(stratum["content_type"] or "no body", 60),
    )
    return " ".join(parts)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 stratum`, `3 strata`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def verdict_counts(document: Json) -> dict[str, int]:
    """How many strata have which verdict; every verdict is there."""
    counts = Counter(each["verdict"] for each in document["strata"])
    return {verdict: counts[verdict] for verdict in VERDICTS}


def headline(document: Json) -> str:
    """Why the report's verdict is what it is, in one sentence."""
    strata, unseen = document["strata"], document["unseen"]
    counts = verdict_counts(document)
    if not document["coverage"]["compared"]:
        return "nothing was compared, so nothing is proved"
    if counts["mismatched"]:
        have = "has" if counts["mismatched"] == 1 else "have"
        return f"{counts['mismatched']:,} of {counted(len(strata), 'stratum', 'strata')} {have} a confirmed difference"
    said = []
    if counts["inconclusive"]:
        said.append(f"{counts['inconclusive']:,} of {counted(len(strata), 'stratum', 'strata')} lack evidence")
    if unseen:
        said.append(f"{counted(len(unseen), 'stratum', 'strata')} of production were not seen")
    if said:
        return " and ".join(said)
    return (
        "its 1 stratum is under its limit" if len(strata) == 1 else f"all {len(strata):,} strata are under their limits"
    )


def coverage_words(coverage: Json) -> str:
    """Compared of eligible, and how many were mirrored."""
    if not coverage["eligible"]:
        return "no eligible request was seen"
    return (
        f"{percent(coverage['share'])}: {coverage['compared']:,} compared of {coverage['eligible']:,} eligible, "
        f"{coverage['mirrored']:,} mirrored"
    )


def compared_words(stratum: Json) -> str:
    """Compared, of how many requests of the stratum where that is known."""
    requests = stratum.get("requests") or 0
    if requests < stratum["compared"] or not requests:
        return f"{stratum['compared']:,}"
    return f"{stratum['compared']:,} of {requests:,} ({percent(stratum['compared'] / requests)})"


def rate_words(stratum: Json) -> str:
    """The interval of the mismatch rate."""
    rate = stratum["rate"]
    return f"{percent(rate['low'])} .. {percent(rate['high'])}"


def limit_of(stratum: Json) -> float:
    """The highest mismatch rate that the stratum's route accepts."""
    return float(stratum.get("limit") or 0.001)


def gathered_s(document: Json) -> float | None:
    """Seconds from the first evidence to the report, None where that is unknown."""
    if document["since"] is None:
        return None
    made, since = (dt.datetime.fromisoformat(document[name]) for name in ("made_at", "since"))
    return max(0.0, (made - since).total_seconds())


def missing_words(stratum: Json, gathered: float | None = None) -> str:
    """What is missing before the stratum is matched: `about 3,809 more requests, about 2.2 h`.

    `gathered` is how long it took to get what there is (seconds), for a guess of how long the rest takes.
    """
    if stratum["verdict"] == "mismatched":
        confirmed = sum(1 for each in stratum["differences"] if each["confirmed"])
        return counted(confirmed, "confirmed difference") if confirmed else "a confirmed difference"
    pairs, seconds = stratum["more_pairs"] or 0, stratum["more_seconds"] or 0.0
    said = [f"stale, {each}" for each in stratum["stale"]]
    if pairs:
        said.append(f"about {pairs:,} more requests")
        if gathered and stratum["compared"] and not stratum["stale"]:
            seconds = max(seconds, pairs * gathered / stratum["compared"])
    if seconds:
        said.append(hours(seconds))
    if stratum["mismatched"] and not stratum["stale"]:
        said.append(f"{counted(stratum['mismatched'], 'mismatch', 'mismatches')} not confirmed")
    said += [each for each in stratum["missing"] if not each.startswith("about ") and each not in stratum["stale"]]
    return ", ".join(said)


def latency_words(latency: Json | None, quantile: str) -> str:
    """`12 -> 14 ms` of one quantile (`p50`, `p99`)."""
    if latency is None:
        return "-"
    return f"{milliseconds(latency[f'control_{quantile}_ms'])} -> {milliseconds(latency[f'candidate_{quantile}_ms'])}"


def milliseconds(value: float) -> str:
    """Milliseconds with as many digits as mean something.

    >>> milliseconds(0.42), milliseconds(7.25), milliseconds(1234.5)
    ('0.42', '7.2', '1,234')
    """
    if value < 1:
        return f"{value:.2g}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def differences(document: Json, *, covered: bool) -> Iterator[tuple[Json, Json]]:
    """Stratum and difference, the most certain and frequent first: those that stand, or those wholly covered."""
    found = [
        (stratum, each)
        for stratum in document["strata"]
        for each in stratum["differences"]
        if (each["covered"] >= each["count"]) is covered
    ]
    yield from sorted(found, key=lambda pair: (-pair[1]["confirmed"], pair[1]["covered"] - pair[1]["count"]))


def difference_words(difference: Json, stratum: Json) -> str:
    """How often, how sure, how noisy."""
    said = [f"in {difference['count']:,} of {counted(stratum['compared'], 'pair')}"]
    if difference["confirmed"]:
        said.append(f"{difference['confirmed']:,} confirmed")
    if difference["covered"]:
        said.append(f"{difference['covered']:,} covered")
    return f"{', '.join(said)}; {noise_words(difference)}"


def noise_words(difference: Json) -> str:
    """How often the control differs from itself there."""
    if not difference["noise_pairs"]:
        return "noise not measured"
    return f"noise {percent(difference['noise'])} of {difference['noise_pairs']:,} A/A"


DROPS: Final[Mapping[str, str]] = {
    "queue_full": "too many copies waited already",
    "memory_full": "copies held all the memory that they may",
    "body_too_large": "the request's body was too large to copy",
    "answer_too_large": "the control's answer was too large to keep",
    "too_long": "the control's answer, or the copy's turn, took too long",
    "upgrade": "it asked for a WebSocket",
    "not_declared_safe": "a write, and the candidate never proved that it captures effects",
    "no_proof": "a write, and the candidate's proof has expired or was withdrawn",
    "candidate_down": "the candidate failed again and again and was left alone for a while",
    "comparer_full": "too many pairs waited to be compared",
    "judge_down": "the comparing process was away",
    "not_compared": "comparing failed on it",
    "killed": "the kill switch was on",
    "client_left": "the client left before it had the answer",
    "no_answer": "the control gave no whole answer",
    "early_answer": "the control answered before it had the whole request",
    "replayed": "it was resumed after a fence, so its answer is not that of the whole request",
    "stage_changed": "its stage became one that does not mirror",
    "stopped": "the proxy left",
    "not_sampled": "the sample left it out, as asked",
}
"""What the reasons of drops mean; a reason that is not here is shown as it is."""
