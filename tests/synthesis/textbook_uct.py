"""UCT as textbooks have it, over any game: an oracle that shares nothing with the package but the random choices."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

History = tuple[Any, ...]
Moves = Callable[[History], list[tuple[Any, float]]]  # (move, reward if the game ends there); [] where it has ended


@dataclass
class Node:
    history: History
    reward: float = 0.0
    children: list[Node] | None = None
    wins: float = 0.0
    visits: int = 0
    paths: list[list[History]] = field(default_factory=list)  # of the root: the path of each rollout


def expand(node: Node, moves: Moves) -> list[Node]:
    if node.children is None:
        node.children = [Node((*node.history, move), reward) for move, reward in moves(node.history)]
    return node.children


def uct_search(moves: Moves, rollouts: int, exploration: float, seed: int | str) -> Node:
    choose = random.Random(seed).choice
    root = Node(())
    for _ in range(rollouts):
        path = [root]
        while path[-1].children:  # selection
            siblings = path[-1].children
            unexplored = [child for child in siblings if child.visits == 0]
            if unexplored:
                path.append(choose(unexplored))
                break
            log = math.log(path[-1].visits)
            path.append(max(siblings, key=lambda n: n.wins / n.visits + exploration * math.sqrt(log / n.visits)))  # noqa: B023
        while expand(path[-1], moves):  # expansion and simulation
            path.append(choose(path[-1].children))
        for node in path:  # back-propagation
            node.visits += 1
            node.wins += path[-1].reward
        root.paths.append([node.history for node in path])
    return root
