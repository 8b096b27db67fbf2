"""Where the nodes of a tree stand on its map: leaves side by side, parents above the middle of their children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WIDTH = 1180.0
_MARGIN = 24.0
_LEVEL = 62.0
_WIDEST_STEP = 46.0


@dataclass(frozen=True)
class Layout:
    """A map in SVG user units.

    Attributes:
        width: Width of the map.
        height: Height of the map.
        points: ``(x, y)`` of each node, by node number.
        step: Distance of neighbouring leaves.
        order: Node numbers from the root down, each node before its children and its subtree together.
    """

    width: float
    height: float
    points: tuple[tuple[float, float], ...]
    step: float
    order: tuple[int, ...]


def layout(nodes: Sequence[Mapping[str, Any]]) -> Layout:
    """Returns the map of a record's nodes, of which every parent stands before its children."""
    children: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        if node["parent"] >= 0:
            children[node["parent"]].append(number)
    order, stack = [], [0]
    while stack:
        number = stack.pop()
        order.append(number)
        stack.extend(reversed(children[number]))
    leaves = [number for number in order if not children[number]]
    step = min(_WIDEST_STEP, (_WIDTH - 2 * _MARGIN) / max(1, len(leaves) - 1))
    start = (_WIDTH - step * (len(leaves) - 1)) / 2
    xs = [0.0] * len(nodes)
    for place, number in enumerate(leaves):
        xs[number] = start + place * step
    for number in reversed(order):
        if children[number]:
            xs[number] = (xs[children[number][0]] + xs[children[number][-1]]) / 2
    deepest = max(node["depth"] for node in nodes)
    points = tuple((x, _MARGIN + node["depth"] * _LEVEL) for x, node in zip(xs, nodes, strict=True))
    return Layout(_WIDTH, 2 * _MARGIN + deepest * _LEVEL, points, step, tuple(order))
