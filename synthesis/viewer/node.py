"""A node: its shape and name, and what is shown of it in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthesis.viewer.html import chip, escape, number, paragraphs

Node = Mapping[str, Any]

NAMES = {"root": "Problem", "thought": "Step", "completion": "Completion", "query": "Query", "theorem": "Theorem"}
LABELS = {
    "relevant": "accepted",
    "irrelevant": "rejected",
    "unparsable": "unparsable",
    "failed": "not judged",
    "on_path": "on the path",
}
# Kinds differ in shape, not in colour alone; drawn around (0, 0) for a radius of 1.
SHAPES = {
    "root": '<rect x="-1" y="-1" width="2" height="2" rx=".5"/>',
    "thought": '<circle r="1"/>',
    "query": '<path d="M0-1.25 1.25 0 0 1.25-1.25 0Z"/>',
    "theorem": '<path d="M0-1.2 1.15.85-1.15.85Z"/>',
    "completion": '<rect x="-.9" y="-.9" width="1.8" height="1.8"/>',
}


def outcome(node: Node) -> str:
    """Returns ``right`` or ``wrong`` for a node that states an answer, else nothing."""
    if not node["is_terminal"]:
        return ""
    return "right" if node["reward"] == 1.0 else "wrong"


def glyph(node: Node) -> str:
    """Returns a node's shape, to stand in a line of text."""
    return (
        f'<svg class="glyph {node["kind"]} {outcome(node)}" viewBox="-1.5 -1.5 3 3" aria-hidden="true">'
        f"{SHAPES[node['kind']]}</svg>"
    )


def name(place: int, node: Node) -> str:
    """Returns a node's shape, kind and number."""
    docno = f" {escape(node['docno'])}" if node["docno"] else ""
    return f"{glyph(node)}{NAMES[node['kind']]}{docno} <small>node {place}</small>"


def details(place: int, record: Mapping[str, Any], rewarded: Mapping[int, int], samples: Sequence[int]) -> str:
    """Returns all that a record says of a node.

    Args:
        place: The node's number.
        record: The record.
        rewarded: How many rollouts of reward 1 ran through each node that had one.
        samples: Numbers of the samples on the page that were made of the node.
    """
    node = record["nodes"][place]
    mean = f"{node['value'] / node['visits']:.3f}" if node["visits"] else "–"
    facts = {
        "Q": f"{node['value']:g}",
        "N": number(node["visits"]),
        "Q/N": mean,
        "depth": str(node["depth"]),
        "reward": f"{node['reward']:g}" if node["is_terminal"] else None,
        "answer": node["answer"],
        "judged": f"{_judged(record, node)}, {node['verdict']['how']}" if node["verdict"] else None,
        "rewarded rollouts": number(rewarded[place]) if place in rewarded else None,
    }
    rows = "".join(
        f"<div><dt>{key}</dt><dd>{escape(fact)}</dd></div>" for key, fact in facts.items() if fact is not None
    )
    made = ", ".join(f'<a href="#s{sample}">{sample + 1}</a>' for sample in samples)
    text = record["problem"] if node["kind"] == "root" else node["text"]
    parts = [
        f'<article id="n{place}"><a class="close" href="#tree" title="Close" aria-label="Close">×</a>'
        f"<h3>{name(place, node)}</h3>",
        f'<dl class="facts">{rows}</dl>{paragraphs(text)}',
        _candidate(node),
        _retrieved(node),
        f"<p>Samples made of it: {made}</p>" if made else "",
        _calls(node["calls"]),
        "</article>",
    ]
    return "".join(parts)


def _judged(record: Mapping[str, Any], node: Node) -> str:
    """Says how an answer compares with the gold answer, or with what stands in for it."""
    is_right = node["verdict"]["is_right"]
    if record["answer"] is None:
        return "as agreed" if is_right else "not as agreed"
    return "right" if is_right else "wrong"


def _candidate(node: Node) -> str:
    if not node["candidate"]:
        return ""
    names = ("name", "statement", "preconditions", "why", "subject")
    rows = "".join(
        f"<div><dt>{field}</dt><dd>{escape(str(node['candidate'][field]))}</dd></div>"
        for field in names
        if node["candidate"].get(field)
    )
    return f'<h4>The theorem looked for</h4><dl class="fields">{rows}</dl>'


def _retrieved(node: Node) -> str:
    if node["kind"] != "query":
        return ""
    if node["retrieved"] is None:
        return "<h4>Retrieved</h4><p>Nothing was looked for: no rollout went on from here.</p>"
    hits = "".join(
        f"<li><p>{chip(LABELS[hit['label']], hit['label'])} <strong>{escape(hit['docno'])}</strong>"
        f"<small>score {hit['score']:.3g}{_probability(hit)}</small></p>"
        f"{paragraphs(hit['reason']) if hit['reason'] else ''}{_calls(hit['calls'])}</li>"
        for hit in node["retrieved"]
    )
    return f'<h4>Retrieved</h4><ol class="hits">{hits}</ol>' if hits else "<h4>Retrieved</h4><p>Nothing.</p>"


def _probability(hit: Mapping[str, Any]) -> str:
    return "" if hit["probability"] is None else f", relevant with probability {hit['probability']:.2f}"


def _calls(calls: Sequence[str]) -> str:
    if not calls:
        return ""
    keys = "".join(f"<li><code>{escape(call)}</code></li>" for call in calls)
    return f'<details class="calls"><summary>LLM calls: {len(calls)}</summary><ul>{keys}</ul></details>'
