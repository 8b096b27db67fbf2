"""The search: the expansion table, equality with a textbook UCT, and independence of order, repetition and kills."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesis.tree import Child, Kind, State, TreeSettings, Trial, ask, start, tell
from tests.synthesis.textbook_uct import Node, uct_search

ROOT, THOUGHT, COMPLETION, QUERY, THEOREM = Kind
Outcome = Callable[[tuple[str, ...], Kind, int], list[Child]]

SMALL = settings(max_examples=40, deadline=None)


class World:
    """A random game: what each trial comes to is drawn from the seed, the history and the slot."""

    def __init__(self, seed: int, failing: float = 0.2) -> None:
        self.seed, self.failing = seed, failing

    def __call__(self, history: tuple[str, ...], kind: Kind, slot: int) -> list[Child]:
        draw = random.Random(f"{self.seed}/{history}/{kind}/{slot}")
        if draw.random() < self.failing:
            return []
        count = {QUERY: 3, THEOREM: 5}.get(kind, 1)
        ends = kind is COMPLETION or (kind is THOUGHT and draw.random() < 0.2)
        reward = float(ends and draw.random() < 0.4)
        return [Child(f"{kind}.{slot}.{n}", ends, reward) for n in range(draw.randint(1, count))]


def history(state: State, node: int) -> tuple[str, ...]:
    return tuple(state.content[n] for n in state.path(node)[1:])


def play(state: State, outcome: Outcome, order: random.Random | None = None) -> list[tuple[Trial, list[Child]]]:
    """Tells a state everything it asks, in its own order or a random one, and returns what was told."""
    log = []
    while trials := list(ask(state)):
        if order is not None:
            order.shuffle(trials)
        for trial in trials[: order.randint(1, len(trials)) if order else None]:
            log.append((trial, outcome(history(state, trial.node), trial.kind, trial.slot)))
            tell(state, *log[-1])
    return log


def everything(state: State) -> dict[str, Any]:
    return {name: value for name, value in vars(state).items() if name not in ("_random", "settings")} | {
        "random": state._random.getstate()
    }


def expected_moves(outcome: Outcome, tree: TreeSettings) -> Callable[[tuple[str, ...]], list[tuple[str, float]]]:
    """SPEC's expansion rules once more, written for the oracle as a plain game."""
    ends: dict[tuple[str, ...], bool] = {}

    def moves(history: tuple[str, ...]) -> list[tuple[str, float]]:
        if ends.get(history) or len(history) == tree.max_depth:
            return []
        kind = history[-1].split(".")[0] if history else "root"
        thoughts = [THOUGHT] * tree.thoughts
        query = [QUERY] * (sum(move.startswith("query") for move in history) < tree.query_limit)
        first, second = {
            "root": ([*thoughts, COMPLETION, *query], []),
            "thought": ([*thoughts, *query], [COMPLETION]),
            "query": ([THEOREM], [*thoughts, COMPLETION]),
            "theorem": ([*thoughts, COMPLETION], []),
        }[kind]
        children = [c for slot, wanted in enumerate(first) for c in outcome(history, wanted, slot)]
        if not children:
            children = [c for slot, wanted in enumerate(second, len(first)) for c in outcome(history, wanted, slot)]
        for child in children:
            ends[(*history, child.content)] = child.is_terminal
        return [(child.content, child.reward) for child in children]

    return moves


def reached(kinds: Sequence[Kind], tree: TreeSettings) -> State:
    """A state whose first rollout goes down a path of these kinds: no other trial comes to anything."""
    state = start(tree, 0)
    for kind in kinds:
        trials = ask(state)
        wanted = next(trial for trial in trials if trial.kind is kind)
        for trial in trials:
            tell(state, trial, [Child(kind.value)] if trial == wanted else [])
    return state


# SPEC §4, "Expansion": the path to a node, its first stage, and what is tried where that left it childless.
TABLE = [
    ([], [THOUGHT, THOUGHT, COMPLETION, QUERY], None),
    ([THOUGHT], [THOUGHT, THOUGHT, QUERY], [COMPLETION]),
    ([THOUGHT, THOUGHT], [THOUGHT, THOUGHT, QUERY], [COMPLETION]),
    ([QUERY], [THEOREM], [THOUGHT, THOUGHT, COMPLETION]),
    ([QUERY, THEOREM], [THOUGHT, THOUGHT, COMPLETION], None),
    ([QUERY, THEOREM, THOUGHT], [THOUGHT, THOUGHT, QUERY], [COMPLETION]),
]


@pytest.mark.parametrize(("path", "first", "second"), TABLE, ids=lambda value: "-".join(value or ["none"]))
def test_a_node_is_expanded_as_the_table_says(path: list[Kind], first: list[Kind], second: list[Kind] | None) -> None:
    state = reached(path, TreeSettings(rollouts=1))
    trials = ask(state)
    assert [trial.kind for trial in trials] == first
    assert [trial.slot for trial in trials] == list(range(len(first)))
    for trial in trials:
        tell(state, trial, [])
    assert [trial.kind for trial in ask(state)] == (second or [])
    assert [trial.slot for trial in ask(state)] == [len(first) + n for n in range(len(second or []))]


@pytest.mark.parametrize(("path", "first", "second"), [row for row in TABLE if row[2]])
def test_the_second_stage_is_not_tried_where_the_first_gave_a_child(
    path: list[Kind], first: list[Kind], second: list[Kind]
) -> None:
    state = reached(path, TreeSettings(rollouts=1))
    parent, *_ = {trial.node for trial in ask(state)}
    for trial in ask(state):
        tell(state, trial, [Child(f"{trial.kind}.{trial.slot}")])
    assert [state.kind[child] for child in state.children[parent]] == first
    assert parent not in {trial.node for trial in ask(state)}


def test_a_path_holds_no_more_than_its_maximum_of_queries() -> None:
    state = start(TreeSettings(rollouts=200, max_depth=6, max_queries=1), 3)
    play(state, World(1, failing=0.0))
    queries = [sum(state.kind[n] is QUERY for n in state.path(node)) for node in range(len(state.parent))]
    assert max(queries) == 1


def test_the_maximum_of_queries_is_half_the_depth_by_default() -> None:
    assert TreeSettings().query_limit == 3
    assert TreeSettings(max_depth=5).query_limit == 2
    assert TreeSettings(max_queries=0).query_limit == 0


def test_without_queries_and_thoughts_a_thought_goes_to_its_completion_at_once() -> None:
    state = start(TreeSettings(rollouts=1, max_queries=0), 0)
    assert [trial.kind for trial in ask(state)] == [THOUGHT, THOUGHT, COMPLETION]
    assert [t.kind for t in ask(start(TreeSettings(max_queries=0, thoughts=0), 0))] == [COMPLETION]


def test_a_query_gives_up_to_five_theorems_and_a_query_trial_several_queries() -> None:
    state = start(TreeSettings(rollouts=1), 0)
    for trial in ask(state):
        tell(state, trial, [Child("q1"), Child("q2")] if trial.kind is QUERY else [])
    assert [state.kind[child] for child in state.children[0]] == [QUERY, QUERY]
    (trial,) = ask(state)
    with pytest.raises(ValueError, match="6 children were told, 5 at most"):
        tell(state, trial, [Child(n) for n in range(6)])
    assert ask(state) == (trial,)
    tell(state, trial, [Child(n) for n in range(5)])
    assert [state.kind[child] for child in state.children[trial.node]] == [THEOREM] * 5


def test_a_node_at_the_maximal_depth_is_not_expanded_and_earns_nothing() -> None:
    state = start(TreeSettings(rollouts=30, max_depth=2), 0)
    play(state, lambda history, kind, slot: [] if kind is COMPLETION else [Child(f"{kind}.{slot}")])
    assert state.is_finished and max(state.depth) == 2
    assert not any(state.children[node] for node in range(len(state.depth)) if state.depth[node] == 2)
    assert state.value[0] == 0.0 and state.visits[0] == 30


def test_a_terminal_thought_at_the_maximal_depth_earns_its_reward() -> None:
    state = start(TreeSettings(rollouts=1, max_depth=1), 0)
    for trial in ask(state):
        tell(state, trial, [Child("done", is_terminal=True, reward=1.0)] if trial.kind is THOUGHT else [])
    assert state.is_finished and state.value[0] == 1.0


def test_a_completion_is_terminal_and_keeps_the_reward_it_is_told() -> None:
    # the original gave a completion the reward of its last sample, whichever sample it kept
    state = start(TreeSettings(rollouts=1), 0)
    for trial in ask(state):
        tell(state, trial, [Child("best of four", reward=1.0)] if trial.kind is COMPLETION else [])
    assert state.is_finished and state.is_terminal[1]
    assert (state.reward[1], state.value) == (1.0, [1.0, 1.0])


def test_children_stand_in_the_order_of_their_slots() -> None:
    state = start(TreeSettings(rollouts=1), 0)
    for trial in reversed(ask(state)):
        tell(state, trial, [Child(trial.slot)])
    assert [state.content[child] for child in state.children[0]] == [0, 1, 2, 3]


def test_a_tree_in_which_everything_fails_is_a_dead_end_of_reward_zero() -> None:
    state = start(TreeSettings(rollouts=4), 0)
    log = play(state, lambda history, kind, slot: [])
    assert len(log) == 4 and state.is_finished
    assert (state.visits, state.value, state.rollouts) == ([4], [0.0], [[0]] * 4)


def test_an_exhausted_tree_goes_on_counting_the_rewards_of_its_terminals() -> None:
    def outcome(history: tuple[str, ...], kind: Kind, slot: int) -> list[Child]:
        return [Child(kind.value, kind is THOUGHT, float(slot == 1))] if kind is THOUGHT or slot == 2 else []

    state = start(TreeSettings(rollouts=100), 0)
    assert len(play(state, outcome)) == 4
    assert state.is_finished and sum(state.visits[1:]) == state.visits[0] == 100
    assert state.value[2] == state.visits[2] == state.value[0] > 60


@pytest.mark.parametrize(
    ("kind", "child", "words"),
    [
        (QUERY, Child("q", is_terminal=True), "doesn't end a solution"),
        (THOUGHT, Child("t", reward=1.0), "isn't terminal"),
    ],
)
def test_a_child_that_cannot_be_is_refused_before_the_state_changes(kind: Kind, child: Child, words: str) -> None:
    state = start(TreeSettings(), 0)
    before = everything(state)
    trial = next(trial for trial in ask(state) if trial.kind is kind)
    with pytest.raises(ValueError, match=words):
        tell(state, trial, [child])
    assert everything(state) == before


@pytest.mark.parametrize("name", ["rollouts", "max_depth", "max_theorems", "parallel_rollouts", "thoughts"])
def test_a_setting_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1"):
        TreeSettings(**{name: -1})


@SMALL
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 7), st.floats(0, 3), st.sampled_from([0, 0.2, 0.6]))
def test_the_tree_equals_the_textbook_uct_visit_for_visit(
    seed: int, rollouts: int, depth: int, exploration: float, failing: float
) -> None:
    tree = TreeSettings(rollouts, depth, exploration)
    world = World(seed, failing)
    state = start(tree, seed)
    play(state, world)
    oracle = uct_search(expected_moves(world, tree), rollouts, exploration, seed)

    assert [[history(state, node) for node in path] for path in state.rollouts] == oracle.paths
    pairs: list[tuple[int, Node]] = [(0, oracle)]
    for node, twin in pairs:
        assert (state.visits[node], state.value[node]) == (twin.visits, twin.wins)
        children = twin.children or []
        assert [history(state, child) for child in state.children[node]] == [child.history for child in children]
        pairs.extend(zip(state.children[node], children, strict=True))
    assert len(pairs) == len(state.parent)


def test_the_search_finds_the_one_path_that_pays() -> None:
    def outcome(history: tuple[str, ...], kind: Kind, slot: int) -> list[Child]:
        good = kind is COMPLETION and history == ("query.3.0", "theorem.0.2")
        count = {QUERY: 2, THEOREM: 4}.get(kind, 1)
        return [Child(f"{kind}.{slot}.{n}", reward=float(good)) for n in range(count)]

    state = start(TreeSettings(rollouts=1500, max_depth=3), 0)
    play(state, outcome)
    node = 0
    while state.children[node]:
        node = max(state.children[node], key=lambda child: state.visits[child])
    assert history(state, node) == ("query.3.0", "theorem.0.2", "completion.2.0")
    assert state.value[node] == state.visits[node] == state.value[0]


@SMALL
@given(st.integers(0, 10_000), st.randoms(use_true_random=False), st.sampled_from([1, 1, 2, 5]))
def test_the_order_of_tells_does_not_change_the_tree(seed: int, order: random.Random, parallel: int) -> None:
    tree = TreeSettings(rollouts=20, parallel_rollouts=parallel)
    straight, shuffled = start(tree, seed), start(tree, seed)
    play(straight, World(seed))
    play(shuffled, World(seed), order)
    assert everything(shuffled) == everything(straight)


@SMALL
@given(st.integers(0, 10_000), st.data())
def test_telling_again_or_of_an_unknown_trial_changes_nothing(seed: int, data: st.DataObject) -> None:
    state, told = start(TreeSettings(rollouts=6), seed), []
    strangers = [Trial(0, THEOREM, 0), Trial(10**6, THOUGHT, 0), Trial(-1, ROOT, 0)]
    while trials := ask(state):
        trial = data.draw(st.sampled_from(trials))
        told.append((trial, World(seed)(history(state, trial.node), trial.kind, trial.slot)))
        tell(state, *told[-1])
        before = everything(state)
        again = data.draw(st.sampled_from(told))
        tell(state, *again)
        tell(state, again[0], [Child("another answer")] * 9)
        tell(state, data.draw(st.sampled_from(strangers)), [Child("nobody asked")])
        assert everything(state) == before


def test_asking_again_gives_the_same() -> None:
    state = start(TreeSettings(), 0)
    assert ask(state) == ask(state)
    tell(state, ask(state)[1], [])
    assert [trial.slot for trial in ask(state)] == [0, 2, 3]


@SMALL
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([1, 3]), st.randoms(use_true_random=False))
def test_a_search_killed_anywhere_is_repeated_by_telling_its_outcomes_again(
    seed: int, share: float, parallel: int, order: random.Random
) -> None:
    tree, world = TreeSettings(rollouts=12, parallel_rollouts=parallel), World(seed)
    log = play(start(tree, f"problem-{seed}"), world)
    killed, repeated = start(tree, f"problem-{seed}"), start(tree, f"problem-{seed}")
    told = log[: int(share * len(log))]
    for trial, children in told:
        tell(killed, trial, children)

    known = dict(told)
    while trials := [trial for trial in ask(repeated) if trial in known]:
        trial = order.choice(trials)
        tell(repeated, trial, known.pop(trial))
    assert not known
    assert everything(repeated) == everything(killed)


def test_the_seed_decides_the_search() -> None:
    paths = []
    for seed in ("a", "a", "b"):
        state = start(TreeSettings(rollouts=10), seed)
        play(state, World(0))
        paths.append(state.rollouts)
    assert paths[0] == paths[1] != paths[2]


def test_two_searches_at_a_time_number_their_nodes_apart() -> None:
    # the original counts nodes in one global, so trees built by several threads share their numbers
    alone = start(TreeSettings(), 1)
    play(alone, World(5))
    one, other = start(TreeSettings(), 1), start(TreeSettings(), 2)
    while not (one.is_finished and other.is_finished):
        for state in (one, other):
            for trial in ask(state):
                tell(state, trial, World(5)(history(state, trial.node), trial.kind, trial.slot))
    assert everything(one) == everything(alone)


@SMALL
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_statistics_are_exact_with_parallel_rollouts(seed: int, parallel: int) -> None:
    state = start(TreeSettings(rollouts=25, parallel_rollouts=parallel), seed)
    while trials := ask(state):
        for trial in trials:
            tell(state, trial, World(seed)(history(state, trial.node), trial.kind, trial.slot))
            for node in range(len(state.parent)):
                passed = [path for path in state.rollouts if node in path]
                assert state.visits[node] == len(passed)
                assert state.value[node] == sum(state.reward[path[-1]] for path in passed)
    assert state.is_finished and len(state.rollouts) == 25 and not any(state._in_flight)


@pytest.mark.parametrize("seed", range(8))
def test_virtual_loss_sends_parallel_rollouts_to_different_children(seed: int) -> None:
    state = start(TreeSettings(rollouts=8, parallel_rollouts=4), seed)
    while len(state.rollouts) < 4:
        assert len({trial.node for trial in ask(state)}) in (1, 4)
        for trial in ask(state):
            count = {0: 12 * (trial.kind is QUERY)}.get(trial.node, int(trial.kind is COMPLETION))
            tell(state, trial, [Child(n) for n in range(count)])
    assert len({trial.node for trial in ask(state)}) == 4


def test_virtual_loss_counts_as_visits_in_uct() -> None:
    state = start(TreeSettings(rollouts=4, parallel_rollouts=2), 0)
    while len(state.rollouts) < 2:
        for trial in ask(state):
            count = {QUERY: 2 * (trial.node == 0), THEOREM: 2, COMPLETION: int(trial.node > 0)}.get(trial.kind, 0)
            tell(state, trial, [Child(n) for n in range(count)])
    first, second = state.children[0]
    assert state.visits[first] == state.visits[second] == 1
    # both are equal now: the first rollout selects the first of them, and so sends the other to the second
    assert {state.parent[trial.node] for trial in ask(state)} == {first, second}


def test_a_rollout_costs_its_depth_and_children_not_the_tree() -> None:
    def seconds(rollouts: int) -> float:
        state = start(TreeSettings(rollouts=rollouts, exploration=50.0), 0)
        begun = time.process_time()
        play(state, World(0, failing=0.0))
        return (time.process_time() - begun) / rollouts

    seconds(50)
    few, many = min(seconds(100) for _ in range(3)), seconds(3000)
    assert many < 4 * few
