"""What a problem's record says of theorems: where one helped, and which were accepted for the problem.

A *use* is a theorem node on a rollout's path that ended with reward 1. Paths that run through the same node tell the
same story up to it, so a node is one use, however many paths reward it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthesis.actions import Step
from synthesis.tree import Kind


@dataclass(frozen=True)
class Use:
    """A retrieved theorem that a rewarded solution contains.

    Attributes:
        problem_id: The problem's id.
        configuration: The configuration's digest.
        problem: The problem's text.
        reward: What the rollout's answer equals: ``gold``, the gold answer, or ``consensus``, what solutions agreed on.
        rollout: Number of the first rollout that used it.
        query_node: The query node that retrieved it.
        node: The theorem node.
        docno: The theorem.
        name: How the query node's candidate called what it was looking for.
        steps: The thoughts and theorems between the root and the query node.
        rejected: Theorems that this query node retrieved and reflection called irrelevant, best first.
        step_calls: The calls that made ``steps``.
        label_calls: The calls that made the theorem node and judged what the query node retrieved.
    """

    problem_id: str
    configuration: str
    problem: str
    reward: str
    rollout: int
    query_node: int
    node: int
    docno: str
    name: str
    steps: tuple[Step, ...]
    rejected: tuple[str, ...]
    step_calls: tuple[str, ...]
    label_calls: tuple[str, ...]


@dataclass(frozen=True)
class Judgements:
    """What reflection said of theorems anywhere in a problem's tree.

    Attributes:
        accepted: Theorems that were found relevant at some node.
        unclear: Theorems that nobody judged: with labels of unparsable or failed judgements and no other.
    """

    accepted: frozenset[str] = frozenset()
    unclear: frozenset[str] = frozenset()

    def __or__(self, other: Judgements) -> Judgements:
        accepted = self.accepted | other.accepted
        return Judgements(accepted, (self.unclear | other.unclear) - accepted)


def uses(record: Mapping[str, Any]) -> list[Use]:
    """Returns the uses of a record, in the order of its rollouts and paths."""
    nodes, found = record["nodes"], {}
    for rollout, path in enumerate(record["rollouts"]):
        if nodes[path[-1]]["reward"] != 1.0:
            continue
        for place, number in enumerate(path):
            if nodes[number]["kind"] == Kind.THEOREM and number not in found:
                found[number] = _use(record, rollout, path[: place + 1])
    return list(found.values())


def _use(record: Mapping[str, Any], rollout: int, path: list[int]) -> Use:
    nodes = record["nodes"]
    *before, query_node, node = path
    query, theorem = nodes[query_node], nodes[node]
    # The retrieval queries of the tree are no part of a solution, nor of any training query.
    steps = [nodes[number] for number in before if nodes[number]["kind"] in (Kind.THOUGHT, Kind.THEOREM)]
    judging = [call for hit in query["retrieved"] for call in hit["calls"]]
    return Use(
        problem_id=record["problem_id"],
        configuration=record["configuration"],
        problem=record["problem"],
        reward="consensus" if record["answer"] is None else "gold",
        rollout=rollout,
        query_node=query_node,
        node=node,
        docno=theorem["docno"],
        name=query["candidate"]["name"] if query["candidate"] else "",
        steps=tuple(Step(Kind(step["kind"]), step["text"]) for step in steps),
        rejected=tuple(hit["docno"] for hit in query["retrieved"] if hit["label"] == "irrelevant"),
        step_calls=tuple(call for step in steps for call in step["calls"]),
        label_calls=tuple(dict.fromkeys([*query["calls"], *judging, *theorem["calls"]])),
    )


def judgements(record: Mapping[str, Any]) -> Judgements:
    """Returns which theorems a record's query nodes accepted, and which nobody can tell of."""
    labels: dict[str, set[str]] = {}
    for node in record["nodes"]:
        for hit in node["retrieved"] or ():
            labels.setdefault(hit["docno"], set()).add(hit["label"])
    # What is already on the path was accepted there.
    accepted = frozenset(docno for docno, of_it in labels.items() if of_it & {"relevant", "on_path"})
    unclear = frozenset(docno for docno, of_it in labels.items() if of_it <= {"unparsable", "failed"})
    return Judgements(accepted, unclear)
