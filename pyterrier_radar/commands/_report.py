"""The demo's report: one HTML file with the table, the figure and a few problems to look at."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d9dee3; --good: #00734f; --good-bg: #e4f5ee; }
body { font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; color: var(--ink);
       max-width: 1080px; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p.soft, .soft { color: var(--soft); }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: right;
         font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--ink); }
td.best { font-weight: 700; }
img { max-width: 100%; height: auto; }
section.problem { border-top: 1px solid var(--line); padding-top: 1.1rem; margin-top: 1.6rem; }
section.problem h3 { font-size: 1rem; margin: 0; color: var(--soft); font-weight: 600; }
blockquote { margin: .6rem 0 1rem; padding: .2rem 0 .2rem 1rem; border-left: 4px solid var(--ink); font-size: 1.06rem; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; }
@media (max-width: 720px) { .sides { grid-template-columns: 1fr; } }
.sides h4 { margin: 0 0 .4rem; }
ol { margin: 0; padding-left: 1.5rem; }
li { margin-bottom: .5rem; padding: .25rem .5rem; border-radius: 5px; }
li.relevant { background: var(--good-bg); }
li .text { color: var(--soft); font-size: .88rem; line-height: 1.4; display: block; overflow-wrap: anywhere; }
.mark { color: var(--good); font-weight: 700; font-size: .85rem; white-space: nowrap; }
"""


@dataclass(frozen=True)
class Hit:
    """A document in a ranking: its title and text, and its grade where it is relevant."""

    title: str
    text: str
    grade: int


@dataclass(frozen=True)
class Problem:
    """A query to show: why it was chosen, its text, what two systems found, and what they should have."""

    why: str
    qid: str
    query: str
    sides: Sequence[tuple[str, Sequence[Hit]]]
    missed: Sequence[str]


def page(report: dict[str, Any], labels: dict[str, str], figure: bytes, problems: Sequence[Problem]) -> str:
    """Puts the report together; every text is escaped, and nothing is loaded from anywhere."""
    image = base64.b64encode(figure).decode("ascii")
    note = f": {escape(report['model_note'])}" if report["model_note"] else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>radar demo: {escape(report["dataset"])}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Which theorem does this problem need?</h1>
<p class="soft">{escape(report["dataset"])}: {report["queries"]} problems, {report["documents"]} statements.
Model: <b>{escape(report["model"])}</b>{note}. Device: {escape(report["device"])}, {escape(report["dtype"])}.</p>
{_table(report, labels)}
<p class="soft">{escape(report["caveat"])}</p>
<img alt="Bars of {escape(", ".join(_measures(report)))} for each system; the table above has the values"
 src="data:image/png;base64,{image}">
<h2>Three problems to look at</h2>
<p class="soft">The top documents of two systems side by side; relevant ones are marked.</p>
{"".join(map(_problem, problems))}
</body>
</html>
"""


def _measures(report: dict[str, Any]) -> list[str]:
    return list(next(iter(report["systems"].values()))["measures"])


def _table(report: dict[str, Any], labels: dict[str, str]) -> str:
    measures = _measures(report)
    systems = report["systems"]
    best = {m: f"{max(row['measures'][m] for row in systems.values()):.3f}" for m in measures}
    head = "".join(f"<th>{escape(m)}</th>" for m in measures)
    rows = ""
    for system, row in systems.items():
        cells = ""
        for measure, value in row["measures"].items():
            mark = ' class="best"' if f"{value:.3f}" == best[measure] else ""
            cells += f"<td{mark}>{value:.3f}</td>"
        rows += f"<tr><td>{escape(labels[system])}</td>{cells}<td>{row['ms_per_query']:.1f}</td></tr>\n"
    return f"<table><thead><tr><th>system</th>{head}<th>ms per query</th></tr></thead><tbody>\n{rows}</tbody></table>"


def _problem(problem: Problem) -> str:
    sides = "".join(
        f"<div><h4>{escape(name)}</h4><ol>{''.join(map(_hit, hits))}</ol></div>" for name, hits in problem.sides
    )
    missed = f"<p class='soft'>In neither list: {escape('; '.join(problem.missed))}.</p>" if problem.missed else ""
    return f"""<section class="problem">
<h3>{escape(problem.why)} <span class="soft">({escape(problem.qid)})</span></h3>
<blockquote>{escape(problem.query)}</blockquote>
<div class="sides">{sides}</div>{missed}
</section>
"""


def _hit(hit: Hit) -> str:
    mark = f' <span class="mark">✓ relevant, grade {hit.grade}</span>' if hit.grade else ""
    css = ' class="relevant"' if hit.grade else ""
    return f'<li{css}><b>{escape(hit.title)}</b>{mark}<span class="text">{escape(hit.text)}</span></li>'
