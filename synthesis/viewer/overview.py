"""The run's page: its figures, and a table of its problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from synthesis.summary import Summary
from synthesis.viewer.html import chip, escape, number, page, tiles


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        address: The problem's page, relative to the overview.
        summary: The record's figures.
        problem: The problem's text, or its beginning.
        samples: Number of samples it made, by type.
    """

    address: str
    summary: Summary
    problem: str
    samples: Counter[str]


def overview(title: str, entries: Sequence[Entry]) -> str:
    """Returns the page as one self-contained HTML document."""
    summaries = [entry.summary for entry in entries]
    judged = [summary for summary in summaries if summary.has_answer]
    agreed = [summary for summary in summaries if not summary.has_answer]
    made = sum((entry.samples for entry in entries), Counter[str]())
    labels = sum((summary.labels for summary in summaries), Counter[str]())
    figures = {
        "problems": number(len(entries)),
        **({"solved": _solved(judged)} if judged else {}),
        **({"agreed, without gold answers": _solved(agreed)} if agreed else {}),
        "rollouts with reward 1": _of(sum(s.rewarded for s in summaries), sum(s.rollouts for s in summaries)),
        "theorems accepted": _of(labels["relevant"], labels.total()),
        "LLM calls": number(sum(s.calls for s in summaries)),
        "tokens written": number(sum(s.generated_tokens for s in summaries)),
        "samples": number(made.total()),
    } | {f"{kind} samples": number(count) for kind, count in sorted(made.items())}
    configurations = ", ".join(sorted({summary.configuration for summary in summaries}))
    return page(
        title,
        f"<header><h1>{escape(title)}</h1><small>configuration {escape(configurations)}</small>"
        f"{tiles(figures)}</header>"
        f'<div class="tools"><h2>Problems</h2><input id="filter" type="search" placeholder="Filter by id or text" '
        f'aria-label="Filter"></div>{_table(entries)}',
    )


def _solved(summaries: Sequence[Summary]) -> str:
    solved = sum(summary.is_solved for summary in summaries)
    return f"{number(solved)} ({100 * solved / len(summaries):.0f}%)"


def _of(part: int, whole: int) -> str:
    return f"{number(part)} of {number(whole)}"


def _table(entries: Sequence[Entry]) -> str:
    counts = ("rewarded", "accepted", "used", "nodes", "samples", "calls", "tokens")
    heads = "".join(f'<th class="count">{name}</th>' for name in counts)
    return (
        f'<div class="card"><table class="problems"><thead><tr><th>problem</th><th>text</th><th>state</th>{heads}</tr>'
        f"</thead><tbody>{''.join(map(_row, entries))}</tbody></table></div>"
    )


def _row(entry: Entry) -> str:
    summary = entry.summary
    state = chip(summary.state, "right" if summary.is_solved else "wrong")
    cells: list[tuple[str, float]] = [
        (f"{summary.rewarded}/{summary.rollouts}", summary.rewarded / max(1, summary.rollouts)),
        *(
            (number(value), value)
            for value in (
                summary.labels["relevant"],
                summary.uses,
                summary.kinds.total(),
                entry.samples.total(),
                summary.calls,
                summary.generated_tokens,
            )
        ),
    ]
    figures = "".join(f'<td class="count" data-value="{value}">{shown}</td>' for shown, value in cells)
    return (
        f'<tr><td class="id"><a href="{escape(entry.address)}">{escape(summary.problem_id)}</a></td>'
        f'<td class="text">{escape(entry.problem)}</td><td>{state}</td>{figures}</tr>'
    )
