"""Monte Carlo tree search over partial solutions, as a pure ask/tell machine (paper §4, Appendix B).

The search of one problem in three steps:

1. :func:`start` gives a :class:`State` with a root.
2. :func:`ask` names the open :class:`Trial` s, each "make children of this kind for this node".
3. :func:`tell` answers one of them. When a node's last trial is told its children come into being, and every rollout
   moves on, through selection, simulation and back-propagation, until it needs the children of another node.

No I/O, no clock, no language model: the state is a function of settings, seed and what was told, in whatever order it
was told within one ``ask``. So a search that was killed is repeated by telling a fresh state the same outcomes.

A rollout selects from the root: an unexplored child first, uniformly, else the child with the highest
``Q/N + c·sqrt(ln N_parent / N)``, the first of equals. From the unexplored child, or from a node that had to be
expanded, it simulates: uniformly random children, expanded on the way and kept. It ends at a terminal, at the maximal
depth or at a dead end, and adds 1 to N and its reward to Q along its path. A rollout that meets a terminal again
back-propagates its reward again.

What a node is expanded into is :data:`EXPANSION`. A node has up to two stages; the second is tried only if the first
left it childless. That is how "CRS only if none yet" of a one-step thought is read here: the authors' released code
asks for a completion of a thought when neither a further thought nor a query came of it, just as it falls back to
thoughts and a completion where a query retrieved nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a node is; the paper's names are OST, CRS, QG and RT."""

    ROOT = "root"
    THOUGHT = "thought"
    COMPLETION = "completion"
    QUERY = "query"
    THEOREM = "theorem"


# The stages of each kind's expansion. A THOUGHT stands for `settings.thoughts` trials of one thought each; the one
# QUERY trial may give several query nodes, and is left out where the path holds its maximum of them.
EXPANSION: dict[Kind, tuple[tuple[Kind, ...], ...]] = {
    Kind.ROOT: ((Kind.THOUGHT, Kind.COMPLETION, Kind.QUERY),),
    Kind.THOUGHT: ((Kind.THOUGHT, Kind.QUERY), (Kind.COMPLETION,)),
    Kind.COMPLETION: (),
    Kind.QUERY: ((Kind.THEOREM,), (Kind.THOUGHT, Kind.COMPLETION)),
    Kind.THEOREM: ((Kind.THOUGHT, Kind.COMPLETION),),
}


@dataclass(frozen=True)
class TreeSettings:
    """The parameters of the search; the defaults are the paper's.

    Attributes:
        rollouts: Rollouts of one problem.
        max_depth: Depth of the deepest nodes, the root's being 0; nodes there are not expanded.
        exploration: The constant c of UCT.
        thoughts: One-step thoughts of one expansion.
        max_theorems: Theorems that one query may give.
        max_queries: Query nodes on one path; None for half of ``max_depth``.
        parallel_rollouts: Rollouts under way at one time. More than one changes which tree is built: each rollout
            under way counts as a visit of reward 0 (virtual loss) for the others.
    """

    rollouts: int = 16
    max_depth: int = 6
    exploration: float = 2.0
    thoughts: int = 2
    max_theorems: int = 5
    max_queries: int | None = None
    parallel_rollouts: int = 1

    def __post_init__(self) -> None:
        for name in ("rollouts", "max_depth", "max_theorems", "parallel_rollouts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        for name in ("exploration", "thoughts", "query_limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or more")

    @property
    def query_limit(self) -> int:
        """The number of query nodes that one path may hold."""
        return self.max_depth // 2 if self.max_queries is None else self.max_queries


@dataclass(frozen=True)
class Trial:
    """The wish for children of one kind for one node.

    Attributes:
        node: The node's number.
        kind: What the children are to be.
        slot: The trial's number among all of its node, over both stages: ``(node, slot)`` names it for good.
    """

    node: int
    kind: Kind
    slot: int


@dataclass(frozen=True)
class Child:
    """A child that a trial came to.

    Attributes:
        content: Whatever the caller keeps of it; the search doesn't look at it.
        is_terminal: True for a thought that states the answer. A completion is terminal anyway.
        reward: Of a terminal; for a completion of several samples, the reward of the sample that is kept.
    """

    content: Any
    is_terminal: bool = False
    reward: float = 0.0


class State:
    """The tree of one problem, and where its rollouts stand; read it freely, change it by :func:`tell` only.

    Attributes:
        settings: The parameters of the search.
        parent: The parent of each node by number, -1 of the root. Children have higher numbers than their parents.
        kind: The kind of each node.
        depth: The depth of each node, the root's being 0.
        visits: N, the rollouts that went through each node.
        value: Q, the sum of their rewards.
        is_terminal: Whether the node ends a solution.
        reward: The reward of each terminal; 0 of all others.
        content: What the caller said of each node; None of the root.
        children: The numbers of each node's children, in the order of their slots.
        rollouts: The path of each finished rollout, root first.
    """

    def __init__(self, settings: TreeSettings, seed: int | str) -> None:
        self.settings = settings
        self.parent: list[int] = []
        self.kind: list[Kind] = []
        self.depth: list[int] = []
        self.visits: list[int] = []
        self.value: list[float] = []
        self.is_terminal: list[bool] = []
        self.reward: list[float] = []
        self.content: list[Any] = []
        self.children: list[list[int]] = []
        self.rollouts: list[list[int]] = []
        self._random = random.Random(seed)
        self._queries: list[int] = []  # query nodes on the path to each node, itself included
        self._stages: list[list[tuple[Trial, ...]]] = []  # what is still to be tried of each node while it is childless
        self._in_flight: list[int] = []  # rollouts under way through each node
        self._begun = 0
        self._waiting: list[list[int]] = []  # rollouts under way: paths that end where children are awaited
        self._open: dict[Trial, Sequence[Child] | None] = {}  # what was asked, and what was told of it

    @property
    def is_finished(self) -> bool:
        """Whether every rollout is done; nothing is open then."""
        return len(self.rollouts) == self.settings.rollouts

    def path(self, node: int) -> list[int]:
        """Returns the numbers of the nodes from the root to a node, both included."""
        path = [node]
        while self.parent[path[-1]] >= 0:
            path.append(self.parent[path[-1]])
        return path[::-1]


def start(settings: TreeSettings, seed: int | str) -> State:
    """Returns the state of a new search, with the trials of its root open.

    Args:
        settings: The parameters of the search.
        seed: Of all random choices; equal seeds and equal outcomes give equal trees, in any process.
    """
    state = State(settings, seed)
    _add(state, -1, Kind.ROOT, Child(None))
    _advance(state)
    return state


def ask(state: State) -> tuple[Trial, ...]:
    """Returns all open trials in a fixed order; asking again gives the same."""
    return tuple(trial for trial, told in state._open.items() if told is None)


def tell(state: State, trial: Trial, children: Sequence[Child]) -> None:
    """Answers a trial; of a trial that isn't open nothing happens.

    Args:
        state: Changed in place.
        trial: One of :func:`ask`.
        children: Nothing if the trial failed; at most one thought or completion, at most ``max_theorems`` theorems,
            any number of queries.

    Raises:
        ValueError: For too many children, a query or theorem that is terminal, or a reward of what isn't terminal.
            The state is as it was.
    """
    if state._open.get(trial, ()) is not None:
        return
    _check(state.settings, trial, children)
    state._open[trial] = tuple(children)
    if None in state._open.values():
        return
    for node in {trial.node for trial in state._open}:
        state._stages[node].pop(0)
    for trial, told in state._open.items():
        for child in told or ():
            _add(state, trial.node, trial.kind, child)
            state._stages[trial.node].clear()
    _advance(state)


def _check(settings: TreeSettings, trial: Trial, children: Sequence[Child]) -> None:
    limit = {Kind.THEOREM: settings.max_theorems, Kind.QUERY: math.inf}.get(trial.kind, 1)
    if len(children) > limit:
        raise ValueError(f"{trial}: {len(children)} children were told, {limit} at most may be")
    for child in children:
        if child.is_terminal and trial.kind in (Kind.QUERY, Kind.THEOREM):
            raise ValueError(f"{trial}: a {trial.kind} doesn't end a solution: leave is_terminal False")
        if child.reward and not child.is_terminal and trial.kind is not Kind.COMPLETION:
            raise ValueError(f"{trial}: a reward of {child.reward} was told of a child that isn't terminal")


def _add(state: State, parent: int, kind: Kind, child: Child) -> None:
    node = len(state.parent)
    is_terminal = child.is_terminal or kind is Kind.COMPLETION
    depth = 0 if parent < 0 else state.depth[parent] + 1
    queries = (0 if parent < 0 else state._queries[parent]) + (kind is Kind.QUERY)
    is_leaf = is_terminal or depth >= state.settings.max_depth
    state.parent.append(parent)
    state.kind.append(kind)
    state.depth.append(depth)
    state.visits.append(0)
    state.value.append(0.0)
    state.is_terminal.append(is_terminal)
    state.reward.append(child.reward)
    state.content.append(child.content)
    state.children.append([])
    state._queries.append(queries)
    state._stages.append([] if is_leaf else _stages(state.settings, node, kind, queries))
    state._in_flight.append(0)
    if parent >= 0:
        state.children[parent].append(node)


def _stages(settings: TreeSettings, node: int, kind: Kind, queries: int) -> list[tuple[Trial, ...]]:
    """Returns the trials of each stage of a node's expansion; no stage is empty."""
    counts = {Kind.THOUGHT: settings.thoughts, Kind.QUERY: int(queries < settings.query_limit)}
    stages: list[tuple[Trial, ...]] = []
    slot = 0
    for kinds in EXPANSION[kind]:
        wanted = [child for child in kinds for _ in range(counts.get(child, 1))]
        if wanted:
            stages.append(tuple(Trial(node, child, slot + n) for n, child in enumerate(wanted)))
            slot += len(wanted)
    return stages


def _advance(state: State) -> None:
    """Moves the rollouts under way, in the order they began, and begins others, until all wait for children."""
    state._waiting = [path for path in state._waiting if not _run(state, path)]
    while len(state._waiting) < state.settings.parallel_rollouts and state._begun < state.settings.rollouts:
        state._begun += 1
        state._in_flight[0] += 1
        path = [0]
        if not _run(state, path):
            state._waiting.append(path)
    state._open = {trial: None for path in state._waiting for trial in state._stages[path[-1]][0]}


def _run(state: State, path: list[int]) -> bool:
    """Moves a rollout until it waits for children (False) or is done (True)."""
    while not state._stages[path[-1]]:
        if not state.children[path[-1]]:
            _back_propagate(state, path)
            return True
        child = _next(state, path[-1])
        path.append(child)
        state._in_flight[child] += 1
    return False


def _next(state: State, node: int) -> int:
    """Selects and simulates in one: below a child that is unexplored everything is, so the choice is uniform there."""
    unexplored = [child for child in state.children[node] if not state.visits[child] + state._in_flight[child]]
    return state._random.choice(unexplored) if unexplored else _highest_uct(state, node)


def _highest_uct(state: State, node: int) -> int:
    # In flight through the node is this rollout too, which is no visit yet.
    exploration = math.log(state.visits[node] + state._in_flight[node] - 1)

    def uct(child: int) -> float:
        visits = state.visits[child] + state._in_flight[child]
        return state.value[child] / visits + state.settings.exploration * math.sqrt(exploration / visits)

    return max(state.children[node], key=uct)


def _back_propagate(state: State, path: list[int]) -> None:
    reward = state.reward[path[-1]]
    for node in path:
        state._in_flight[node] -= 1
        state.visits[node] += 1
        state.value[node] += reward
    state.rollouts.append(path)
