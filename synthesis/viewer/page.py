"""One problem's page: the map of its tree, the tree as an outline, each node in full, and the samples it made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from synthesis.summary import Summary, summarise
from synthesis.viewer.html import chip, escape, number, page, paragraphs, tiles
from synthesis.viewer.layout import Layout, layout
from synthesis.viewer.node import LABELS, NAMES, SHAPES, Node, details, glyph, name, outcome


def problem_page(record: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page of a record as one self-contained HTML document.

    Args:
        record: The record.
        samples: The samples of the training format that the problem made.
    """
    nodes, summary = record["nodes"], summarise(record)
    rewarded = _rewarded(record)
    winning = frozenset(_winning_path(record))
    by_node: dict[int, list[int]] = {}
    for place, sample in enumerate(samples):
        by_node.setdefault(sample["provenance"]["node"], []).append(place)
    drawing = layout(nodes)
    sections = [
        _head(record, summary, len(samples)),
        _map(nodes, drawing, rewarded, winning),
        '<section class="tree" id="tree"><div class="outline"><header><h2>Tree</h2>',
        _switch(nodes),
        '</header><div class="rows">',
        *(_row(number, nodes, rewarded, winning) for number in drawing.order),
        '</div></div><aside class="details" aria-live="polite">',
        _solution(record),
        *(details(number, record, rewarded, by_node.get(number, [])) for number in drawing.order),
        "</aside></section>",
        _samples(samples),
    ]
    return page(record["problem_id"], "".join(sections), back=("../index.html", "All problems"))


def _rewarded(record: Mapping[str, Any]) -> dict[int, int]:
    """How many rollouts of reward 1 ran through each node that had one."""
    through: dict[int, int] = {}
    for path in record["rollouts"]:
        if record["nodes"][path[-1]]["reward"] == 1.0:
            for node in path:
                through[node] = through.get(node, 0) + 1
    return through


def _winning_path(record: Mapping[str, Any]) -> list[int]:
    """The path of reward 1 whose end was visited most often, the first of equals; empty if there is none."""
    nodes = record["nodes"]
    paths = [path for path in record["rollouts"] if nodes[path[-1]]["reward"] == 1.0]
    return max(paths, key=lambda path: nodes[path[-1]]["visits"], default=[])


def _head(record: Mapping[str, Any], summary: Summary, samples: int) -> str:
    share = f"{summary.rewarded} of {summary.rollouts}"
    figures = tiles(
        {
            **_gold(record),
            "rollouts with reward 1": share,
            "nodes": f"{len(record['nodes'])} ({summary.visited} visited)",
            "theorems accepted": f"{summary.labels['relevant']} of {summary.labels.total()}",
            "samples": number(samples),
            "LLM calls": f"{number(summary.calls)} ({number(summary.cached)} cached)",
            "tokens written": number(summary.generated_tokens),
            "seconds": f"{summary.seconds:.1f}",
        }
    )
    state = chip(summary.state, "right" if summary.is_solved else "wrong")
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in _choices(record))
    return (
        f'<header class="head"><p class="eyebrow">{escape(record["problem_id"])} {state} '
        f"<small>configuration {escape(record['configuration'])}</small></p>"
        f'<div class="problem">{paragraphs(record["problem"])}'
        f"{f'<ol class=choices>{choices}</ol>' if choices else ''}</div>{figures}</header>"
    )


def _gold(record: Mapping[str, Any]) -> dict[str, str]:
    """The answer that rewards were given by: the gold answer, or what solutions agreed on."""
    if record["answer"] is not None:
        return {"gold answer": record["answer"]}
    agreed = record.get("consensus")
    if not agreed or agreed["answer"] is None:
        return {"no gold answer": "and no agreement"}
    return {f"agreed by {agreed['votes']} of {agreed['total']}": agreed["answer"]}


def _choices(record: Mapping[str, Any]) -> Iterable[str]:
    return (f"{letter}: {text}" for letter, text in zip(ascii_uppercase, record["choices"] or (), strict=False))


def _map(nodes: Sequence[Node], drawing: Layout, rewarded: Mapping[int, int], winning: frozenset[int]) -> str:
    edges, glyphs = [], []
    for place, node in enumerate(nodes):
        x, y = drawing.points[place]
        if node["parent"] >= 0:
            px, py = drawing.points[node["parent"]]
            middle = (y + py) / 2
            edges.append(
                f'<path class="edge {_path_class(place, node, rewarded, winning)}" '
                f'd="M{px:.1f} {py:.1f}C{px:.1f} {middle:.1f} {x:.1f} {middle:.1f} {x:.1f} {y:.1f}"/>'
            )
        radius = min(3.2 + 1.3 * node["visits"] ** 0.5, 9.0, max(2.6, drawing.step * 0.62))
        if node["kind"] == "root":
            radius = 8.0
        glyphs.append(
            f'<a href="#n{place}" data-node="{place}" class="{_classes(place, node, rewarded, winning)}">'
            f"<title>{escape(_headline(place, node))}</title>"
            f'<g transform="translate({x:.1f} {y:.1f}) scale({radius:.2f})">{SHAPES[node["kind"]]}</g></a>'
        )
    edges.sort(key=lambda edge: ("rewarded" in edge, "winning" in edge))  # what matters is drawn on top
    height = drawing.height
    return (
        f'<section class="map"><svg viewBox="0 0 {drawing.width:.0f} {height:.0f}" role="img" '
        f'aria-label="Map of the tree">{"".join(edges)}{"".join(glyphs)}</svg>{_legend()}</section>'
    )


def _legend() -> str:
    kinds = "".join(
        f'<span class="{kind}"><svg viewBox="-1.5 -1.5 3 3">{shape}</svg>{NAMES[kind].lower()}</span>'
        for kind, shape in SHAPES.items()
    )
    return (
        f'<p class="legend">{kinds}<span class="completion right"><svg viewBox="-1.5 -1.5 3 3">'
        f'{SHAPES["completion"]}</svg>answer with reward 1</span><span class="line winning">winning path</span>'
        '<span class="line rewarded">other rewarded paths</span>'
        "<span>size: visits; pale: not visited; grey: other answers</span></p>"
    )


def _solution(record: Mapping[str, Any]) -> str:
    """What stands beside the tree until a node is chosen."""
    path = [number for number in _winning_path(record) if record["nodes"][number]["kind"] != "root"]
    steps = "".join(
        f'<li><a href="#n{number}" data-node="{number}">{name(number, record["nodes"][number])}</a>'
        f"{paragraphs(record['nodes'][number]['text'])}</li>"
        for number in path
    )
    title = "<h2>Winning path</h2>" if path else "<h2>No path with reward 1</h2>"
    return (
        f'<div class="solution">{title}<p class="hint">Choose a node, on the map or in the tree, to read it in full. '
        f"The arrow keys walk through the tree.</p><ol>{steps}</ol></div>"
    )


def _switch(nodes: Sequence[Node]) -> str:
    hidden = sum(node["visits"] == 0 for node in nodes)
    if not hidden:
        return ""
    return f'<label class="switch"><input type="checkbox" id="all"> show {hidden} nodes never visited</label>'


def _row(place: int, nodes: Sequence[Node], rewarded: Mapping[int, int], winning: frozenset[int]) -> str:
    node = nodes[place]
    visits = node["visits"]
    mean = node["value"] / visits if visits else 0.0
    share = (
        f'<span class="bar"><i style="width:{100 * mean:.0f}%"></i></span><b>{mean:.2f}</b><span>{visits}×</span>'
        if visits
        else '<span class="bar"></span><b>–</b><span>0×</span>'
    )
    return (
        f'<a class="row {_classes(place, node, rewarded, winning)}" href="#n{place}" data-node="{place}" '
        f'style="--depth:{node["depth"]}">{glyph(node)}<span class="number">{place}</span>'
        f'<span class="text">{_line(node)}</span><span class="value">{share}</span></a>'
    )


def _line(node: Node) -> str:
    """What a row says of its node."""
    text = escape(" ".join(node["text"].split())[:220])
    if node["kind"] == "root":
        return "<em>the problem</em>"
    if node["kind"] == "theorem":
        return f"<strong>{escape(node['docno'])}</strong> {text}"
    if node["kind"] == "query":
        labels = "".join(
            f'<i class="dot {hit["label"]}" title="{escape(hit["docno"])}: {LABELS[hit["label"]]}"></i>'
            for hit in node["retrieved"] or ()
        )
        return f'<span class="dots">{labels}</span><q>{text}</q>'
    if node["is_terminal"]:
        shown = "no answer" if node["answer"] is None else node["answer"]
        return f"{chip(shown, outcome(node))} {text}"
    return text


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    if not samples:
        return ""
    cards = "".join(
        f'<li id="s{place}"><p>{chip(sample["query_type"], "type")} for <strong>'
        f"{escape(sample['positive']['docno'])}</strong> <small>node "
        f'<a href="#n{sample["provenance"]["node"]}" data-node="{sample["provenance"]["node"]}">'
        f"{sample['provenance']['node']}</a></small></p>{paragraphs(sample['query'])}"
        f"<details><summary>negatives: {len(sample['negatives'])}</summary>"
        f'<p class="negatives">{_negatives(sample)}</p></details></li>'
        for place, sample in enumerate(samples)
    )
    return f'<section class="samples"><h2>Samples</h2><ol>{cards}</ol></section>'


def _negatives(sample: Mapping[str, Any]) -> str:
    return " ".join(
        f"<span>{escape(negative['docno'])} <small>{escape(negative['origin'])}</small></span>"
        for negative in sample["negatives"]
    )


def _path_class(place: int, node: Node, rewarded: Mapping[int, int], winning: frozenset[int]) -> str:
    if place in winning:
        return "winning"
    return "rewarded" if place in rewarded else "visited" if node["visits"] else "unvisited"


def _classes(place: int, node: Node, rewarded: Mapping[int, int], winning: frozenset[int]) -> str:
    return f"{node['kind']} {outcome(node)} {_path_class(place, node, rewarded, winning)}"


def _headline(place: int, node: Node) -> str:
    mean = f"Q/N {node['value'] / node['visits']:.2f}, " if node["visits"] else ""
    return f"{place}: {NAMES[node['kind']].lower()}, {mean}{node['visits']} visits\n{node['text'][:160]}"
