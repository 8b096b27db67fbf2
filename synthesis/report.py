"""The report of a run, as Markdown for a paper's appendix and as JSON for a program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from synthesis.files import write_text
from synthesis.markdown import count, share, table
from synthesis.summary import Summary, summarise

SCHEMA = 1

_KINDS = {"thought": "one-step thought", "completion": "completion", "query": "query", "theorem": "theorem"}
_TOKENS = {
    "prompt_tokens": "Prompt tokens",
    "paid_prompt_tokens": "Prompt tokens not from the cache",
    "generated_tokens": "Generated tokens",
    "paid_generated_tokens": "Generated tokens not from the cache",
}


def write_report(
    records: Iterable[Mapping[str, Any]],
    folder: str | Path,
    *,
    dataset: str | Path | None = None,
    about: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Writes ``report.md`` and ``report.json``.

    Args:
        records: The store, or any records.
        folder: Where the two files go.
        dataset: The folder that :func:`synthesis.samples.make_samples` wrote, if there is one yet.
        about: What the records cannot tell, such as the names of the language model and the corpus; printed as it is.

    Returns:
        What ``report.json`` holds.

    Raises:
        ValueError: If there is no record.
        OSError: If the dataset's ``samples.json`` cannot be read, or the files cannot be written.
    """
    samples = json.loads((Path(dataset) / "samples.json").read_text(encoding="utf-8")) if dataset else None
    report = {"schema": SCHEMA, "about": dict(about or {})} | run_figures(map(summarise, records))
    report["samples"] = samples
    write_text(Path(folder) / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
    write_text(Path(folder) / "report.md", markdown(report))
    return report


def run_figures(summaries: Iterable[Summary]) -> dict[str, Any]:
    """Returns the figures of a run, added up over its problems.

    Problems without a gold answer are counted apart: their rewards say that answers agree, not that they are right.

    Raises:
        ValueError: If there is no summary.
    """
    sums: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    unparsable: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    configurations: Counter[str] = Counter()
    seconds, calls = [], []
    for summary in summaries:
        group = "judged" if summary.has_answer else "self_consistency"
        sums[f"{group}.problems"] += 1
        sums[f"{group}.solved"] += summary.is_solved
        sums[f"{group}.rollouts"] += summary.rollouts
        sums[f"{group}.rewarded"] += summary.rewarded
        for name in ("calls", "cached", "uses", "visited", *_TOKENS):
            sums[name] += getattr(summary, name)
        sums["with_uses"] += summary.uses > 0
        configurations[summary.configuration] += 1
        for total, part in (
            (kinds, summary.kinds),
            (labels, summary.labels),
            (verdicts, summary.verdicts),
            (unparsable, summary.unparsable),
            (failed, summary.failed),
        ):
            total.update(part)
        seconds.append(summary.seconds)
        calls.append(summary.calls)
    if not calls:
        raise ValueError("there is no finished problem to report on yet: run the synthesis first")
    return {
        "configurations": dict(configurations),
        "problems": {
            group: {name: sums[f"{group}.{name}"] for name in ("problems", "solved", "rollouts", "rewarded")}
            for group in ("judged", "self_consistency")
        },
        "nodes": dict(kinds) | {"visited": sums["visited"]},
        "theorems": dict(labels) | {"uses": sums["uses"], "problems_with_uses": sums["with_uses"]},
        "verdicts": dict(verdicts),
        "calls": {
            "total": sums["calls"],
            "cached": sums["cached"],
            **{name: sums[name] for name in _TOKENS},
            "median_per_problem": median(calls),
            "unparsable": dict(unparsable),
            "failed": dict(failed),
        },
        "seconds": {"sum": round(sum(seconds), 1), "median_per_problem": round(median(seconds), 1)},
    }


def markdown(report: Mapping[str, Any]) -> str:
    """Returns a report as Markdown."""
    parts = [
        "# Synthesis report",
        _about(report),
        "## Problems",
        _problems(report),
        "## Search",
        _search(report),
        "## Language model",
        _calls(report),
    ]
    if report["samples"]:
        parts += ["## Samples", samples_markdown(report["samples"])]
        parts += ["## Decontamination", decontamination_markdown(report["samples"]["decontamination"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(report: Mapping[str, Any]) -> str:
    rows = [(name, value) for name, value in report["about"].items()]
    rows += [("Configuration", f"{name} ({count(n)} problems)") for name, n in report["configurations"].items()]
    return table(("", ""), rows)


def _problems(report: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            count(group["problems"]),
            f"{count(group['solved'])} ({share(group['solved'], group['problems'])})",
            f"{count(group['rewarded'])} of {count(group['rollouts'])} ({share(group['rewarded'], group['rollouts'])})",
        )
        for name, group in (
            ("with a gold answer", report["problems"]["judged"]),
            ("without one (self-consistency)", report["problems"]["self_consistency"]),
        )
        if group["problems"]
    ]
    return (
        table(("Problems", "Number", "Solved", "Rollouts with reward 1"), rows)
        + "\n\nA problem is solved if at least one rollout ended with reward 1."
        + (f" {_CONSENSUS}" if report["problems"]["self_consistency"]["problems"] else "")
    )


_CONSENSUS = (
    "Without a gold answer, rewards say that solutions of one model agree with each other, not that they are right."
)


def _search(report: Mapping[str, Any]) -> str:
    nodes, theorems = report["nodes"], report["theorems"]
    judged = sum(theorems.get(label, 0) for label in ("relevant", "irrelevant", "unparsable"))
    rows = [(f"Nodes: {name}", count(nodes.get(kind, 0))) for kind, name in _KINDS.items()]
    rows += [
        ("Nodes that a rollout went through", count(nodes["visited"])),
        ("Theorems judged", count(judged)),
        ("… accepted", _part(theorems.get("relevant", 0), judged)),
        ("… rejected", _part(theorems.get("irrelevant", 0), judged)),
        ("… with an unparsable judgement", _part(theorems.get("unparsable", 0), judged)),
        ("Theorems retrieved that were on the path already", count(theorems.get("on_path", 0))),
        ("Theorem nodes on the way to reward 1", count(theorems["uses"])),
        ("Problems with such a node", count(theorems["problems_with_uses"])),
    ]
    rows += [(f"Answers judged by: {how}", count(number)) for how, number in sorted(report["verdicts"].items())]
    return table(("Search", "Number"), rows)


def _calls(report: Mapping[str, Any]) -> str:
    calls, seconds = report["calls"], report["seconds"]
    asked = calls["total"]
    rows = [
        ("Calls", count(asked)),
        ("… answered from the cache", _part(calls["cached"], asked)),
        ("… a problem (median)", f"{calls['median_per_problem']:g}"),
        *((shown, count(calls[name])) for name, shown in _TOKENS.items()),
        ("Seconds a problem (median)", f"{seconds['median_per_problem']:g}"),
    ]
    rows += [(f"Unparsable: {what}", count(number)) for what, number in sorted(calls["unparsable"].items())]
    rows += [(f"Failed: {why}", count(number)) for why, number in sorted(calls["failed"].items())]
    return (
        table(("Language model", "Number"), rows)
        + "\n\nWhat is from the cache was answered for another problem, or before the run was stopped and resumed."
    )


def samples_markdown(samples: Mapping[str, Any]) -> str:
    """Returns what was made of the trajectories: samples, what was dropped, and where negatives came from."""
    types, problems = samples["types"], samples["problems"]
    origins = sorted({origin for of_type in types.values() for origin in of_type["negatives"]})
    made = [
        (
            kind,
            count(of_type["samples"]),
            *(count(of_type["negatives"].get(origin, 0)) for origin in origins),
            count(of_type["short_of_negatives"]),
            "–" if of_type["mean_overlap"] is None else f"{of_type['mean_overlap']:.2f}",
        )
        for kind, of_type in types.items()
    ]
    total = ["all", count(samples["samples"])]
    total += [count(sum(of_type["negatives"].get(origin, 0) for of_type in types.values())) for origin in origins]
    total += [count(sum(of_type["short_of_negatives"] for of_type in types.values())), "–"]
    heads = ("Type", "Samples", *(f"Negatives: {origin}" for origin in origins), "Short of negatives", "Overlap")
    dropped = [
        (kind, reason, count(number))
        for kind, of_type in types.items()
        for reason, number in of_type["dropped"].items()
    ]
    calls, of_agreement = samples["calls"], samples["consensus_samples"]
    refused = [(reason, count(number)) for reason, number in samples["refused_as_negatives"].items()]
    parts = [
        f"{count(samples['samples'])} samples of {count(samples['theorems'])} theorems. Of "
        f"{count(problems['records'])} problems, {count(problems['rewarded'])} were solved, "
        f"{count(problems['with_uses'])} of them with a theorem on the way; {count(problems['contaminated'])} were "
        "left out as evaluation queries.",
        f"{count(of_agreement)} of them come of problems without a gold answer. {_CONSENSUS}" if of_agreement else "",
        table(heads, [*made, tuple(total)]),
        "Overlap: mean share of a written query's content words that occur in the theorem.",
        f"The language model was asked {count(calls['total'])} times for queries: "
        f"{count(calls['prompt_tokens'])} tokens read, {count(calls['generated_tokens'])} written.",
        table(("Type", "Not made or dropped because", "Number"), dropped) if dropped else "",
        table(("Refused as a negative because", "Number"), refused) if refused else "",
    ]
    return "\n\n".join(part for part in parts if part)


def decontamination_markdown(decontamination: Mapping[str, Any] | None) -> str:
    """Returns what was compared with which evaluation queries, and every pair that was found."""
    if decontamination is None:
        return "Not done: problems and queries were **not** compared with any evaluation queries."
    removed = decontamination["removed"]
    sources = ", ".join(f"{name} ({count(number)} queries)" for name, number in decontamination["against"].items())
    exact = sum(pair["how"] == "exact" for pair in removed)
    text = (
        f"{count(decontamination['checked'])} problems and queries were compared with {sources}: "
        f"{count(len(removed))} removed, {count(exact)} equal after normalisation, {count(len(removed) - exact)} "
        f"with a Jaccard similarity of word triples of at least {decontamination['threshold']:g}."
    )
    rows = [
        (pair["id"], pair["query_id"], pair["source"], pair["how"], f"{pair['similarity']:.2f}", _start(pair["text"]))
        for pair in removed
    ]
    heads = ("Removed", "Evaluation query", "File", "How", "Similarity", "Text")
    return f"{text}\n\n{table(heads, rows)}" if rows else text


def _part(number: int, of: int) -> str:
    return f"{count(number)} ({share(number, of)})"


def _start(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
