"""Records of problems for tests, valid by the schema of note 0003: built node by node, or drawn by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MAX_DEPTH = 6


class RecordBuilder:
    """A record under construction. Each method that adds a node returns its number; 0 is the root."""

    def __init__(self, problem_id: str, problem: str, answer: str | None = "4", configuration: str = "c0ffee"):
        self._head = {
            "schema": 1,
            "problem_id": problem_id,
            "configuration": configuration,
            "problem": problem,
            "answer": answer,
            "choices": None,
            "consensus": None,
        }
        self.nodes: list[dict[str, Any]] = []
        self.rollouts: list[list[int]] = []
        self._add(-1, "root", "")

    def _add(self, parent: int, kind: str, text: str, **values: Any) -> int:
        number = len(self.nodes)
        node = {
            "parent": parent,
            "kind": kind,
            "depth": self.nodes[parent]["depth"] + 1 if self.nodes else 0,
            "visits": 0,
            "value": 0.0,
            "is_terminal": False,
            "reward": 0.0,
            "text": text,
            "answer": None,
            "verdict": None,
            "docno": None,
            "candidate": None,
            "retrieved": None,
            "calls": [f"{self._head['problem_id']}-{number}"] if self.nodes else [],
        }
        self.nodes.append(node | values)
        return number

    def thought(self, parent: int, text: str) -> int:
        return self._add(parent, "thought", text)

    def query(self, parent: int, name: str, statement: str, retrieved: dict[str, str]) -> int:
        """Adds a query node; ``retrieved`` gives the label of each docno, in the order of the ranking."""
        hits = [
            {
                "docno": docno,
                "score": 10.0 - rank,
                "label": label,
                "probability": {"relevant": 0.9, "irrelevant": 0.2}.get(label),
                "reason": f"because of {docno}",
                "calls": [f"{self._head['problem_id']}-{len(self.nodes)}-{docno}"],
            }
            for rank, (docno, label) in enumerate(retrieved.items())
        ]
        names = ("name", "statement", "preconditions", "why", "subject")
        candidate = dict(zip(names, (name, statement, "none", "it fits", "algebra"), strict=True))
        return self._add(parent, "query", f"{name}. {statement}", candidate=candidate, retrieved=hits)

    def theorem(self, parent: int, docno: str, summary: str) -> int:
        return self._add(parent, "theorem", summary, docno=docno)

    def completion(self, parent: int, text: str, answer: str | None, reward: float) -> int:
        verdict = {"is_right": reward == 1.0, "how": "literal"}
        return self._add(parent, "completion", text, answer=answer, verdict=verdict, reward=reward, is_terminal=True)

    def rollout(self, last: int) -> RecordBuilder:
        """Notes a rollout that ended at a node, and back-propagates its reward."""
        path = [last]
        while self.nodes[path[-1]]["parent"] >= 0:
            path.append(self.nodes[path[-1]]["parent"])
        for number in path:
            self.nodes[number]["visits"] += 1
            self.nodes[number]["value"] += self.nodes[last]["reward"]
        self.rollouts.append(path[::-1])
        return self

    def record(self) -> dict[str, Any]:
        counts = {
            "calls": sum(len(node["calls"]) for node in self.nodes),
            "cached": 1,
            "prompt_tokens": 1000,
            "generated_tokens": 100,
            "paid_prompt_tokens": 800,
            "paid_generated_tokens": 60,
            "unparsable": {"candidates": 1},
            "failed": {},
        }
        return self._head | {"nodes": self.nodes, "rollouts": self.rollouts, "counts": counts, "seconds": 2.5}


def solved(problem_id: str = "p1", problem: str = "What is two plus two, and why?") -> dict[str, Any]:
    """A small solved problem.

    root ─ thought 1 ─ query 2 ─ theorem 3 (t1) ─ completion 4, right
                               └ theorem 5 (t2) ─ thought 6 ─ query 7 ─ theorem 8 (t3) ─ completion 9, right
         └ completion 10, wrong
         └ query 11 (t4 accepted) ─ theorem 12 (t4) ─ completion 13, wrong
         └ query 14 ─ theorem 15 (t1) ─ completion 16, right
    """
    tree = RecordBuilder(problem_id, problem)
    first = tree.thought(0, "Step 1: count on your fingers.")
    query = tree.query(
        first,
        "Addition lemma",
        "Sums commute",
        {"t1": "relevant", "t2": "relevant", "t10": "irrelevant", "t11": "unparsable", "t4": "irrelevant"},
    )
    one = tree.completion(tree.theorem(query, "t1", "Addition commutes."), "So it is \\boxed{4}.", "4", 1.0)
    two = tree.thought(tree.theorem(query, "t2", "Addition associates."), "Step 2: regroup.")
    deeper = tree.query(two, "Zero", "Zero is neutral", {"t1": "on_path", "t3": "relevant", "t12": "irrelevant"})
    right = tree.completion(tree.theorem(deeper, "t3", "Zero changes nothing."), "\\boxed{4}", "4", 1.0)
    wrong = tree.completion(0, "\\boxed{5}", "5", 0.0)
    other = tree.query(0, "Wrong turn", "Everything is five", {"t4": "relevant"})
    lost = tree.completion(tree.theorem(other, "t4", "Five is the sum."), "\\boxed{5}", "5", 0.0)
    direct = tree.query(0, "Commuting", "a + b = b + a", {"t1": "relevant", "t13": "irrelevant"})
    short = tree.completion(tree.theorem(direct, "t1", "Addition commutes."), "\\boxed{4}", "4", 1.0)
    for last in (one, right, wrong, lost, short, one):
        tree.rollout(last)
    return tree.record()


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(lambda text: text.strip())
_DOCNOS = [f"t{number}" for number in range(1, 9)]
_CHILDREN = {
    "root": ("thought", "completion", "query"),
    "thought": ("thought", "completion", "query"),
    "query": ("theorem",),
    "theorem": ("thought", "completion"),
}


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Small valid records: any shape that the rules of expansion allow, any texts, any labels."""
    tree = RecordBuilder(draw(_TEXT), draw(_TEXT), draw(st.none() | _TEXT))
    for _ in range(draw(st.integers(0, 14))):
        open_nodes = [
            number
            for number, node in enumerate(tree.nodes)
            if node["kind"] in _CHILDREN and node["depth"] < MAX_DEPTH and _unused(tree, number) is not None
        ]
        if not open_nodes:
            break
        parent = draw(st.sampled_from(open_nodes))
        node = tree.nodes[parent]
        accepted = [hit for hit in node["retrieved"] or () if hit["label"] == "relevant"]
        # A query that retrieved nothing is followed by steps, as the root is.
        kind = draw(st.sampled_from(_CHILDREN["theorem" if node["kind"] == "query" and not accepted else node["kind"]]))
        if kind == "thought":
            tree.thought(parent, draw(_TEXT))
        elif kind == "completion":
            tree.completion(parent, draw(_TEXT), draw(st.none() | _TEXT), draw(st.sampled_from([0.0, 1.0])))
        elif kind == "query":
            docnos = draw(st.lists(st.sampled_from(_DOCNOS), unique=True, max_size=5))
            labels = st.sampled_from(["relevant", "irrelevant", "unparsable"])
            tree.query(parent, draw(_TEXT), draw(_TEXT), {docno: draw(labels) for docno in docnos})
        else:
            tree.theorem(parent, _unused(tree, parent) or "", draw(_TEXT))
    leaves = [number for number in range(len(tree.nodes)) if all(node["parent"] != number for node in tree.nodes)]
    for last in draw(st.lists(st.sampled_from(leaves), max_size=6)):
        tree.rollout(last)
    return tree.record()


def _unused(tree: RecordBuilder, number: int) -> str | None:
    """The next accepted theorem of a query node that has no node yet; empty where another kind of child may come."""
    node = tree.nodes[number]
    there = {child["docno"] for child in tree.nodes if child["parent"] == number}
    accepted = [hit["docno"] for hit in node["retrieved"] or () if hit["label"] == "relevant"]
    if not accepted:
        return ""
    return next((docno for docno in accepted if docno not in there), None)
