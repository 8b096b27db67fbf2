"""A problem's record in figures: what reports add up and views show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthesis.uses import uses


@dataclass(frozen=True)
class Summary:
    """Figures of one record.

    Attributes:
        problem_id: The problem's id.
        configuration: The configuration's digest.
        has_answer: Whether there is a gold answer; without one, rewards come of self-consistency.
        rollouts: Number of rollouts.
        rewarded: Number of rollouts that ended with reward 1.
        kinds: Number of nodes by kind.
        visited: Number of nodes that a rollout went through.
        labels: Number of retrieved theorems by label, each query node counted.
        verdicts: How the answers of terminals were judged, by way of judging.
        uses: Number of theorem nodes on rewarded paths.
        calls: LLM calls, those answered from the cache included.
        cached: LLM calls answered from the cache.
        prompt_tokens: Tokens read for all of them.
        generated_tokens: Tokens written for all of them.
        paid_prompt_tokens: Tokens read for those that the cache didn't answer.
        paid_generated_tokens: Tokens written for those.
        unparsable: Number of answers that no parser understood, by what was asked.
        failed: Number of calls that failed for good, by reason.
        seconds: Wall-clock seconds.
    """

    problem_id: str
    configuration: str
    has_answer: bool
    rollouts: int
    rewarded: int
    kinds: Counter[str]
    visited: int
    labels: Counter[str]
    verdicts: Counter[str]
    uses: int
    calls: int
    cached: int
    prompt_tokens: int
    generated_tokens: int
    paid_prompt_tokens: int
    paid_generated_tokens: int
    unparsable: Counter[str]
    failed: Counter[str]
    seconds: float

    @property
    def is_solved(self) -> bool:
        """Whether at least one rollout ended with reward 1."""
        return self.rewarded > 0

    @property
    def state(self) -> str:
        """Whether it is solved, or, without a gold answer, came to what solutions had agreed on."""
        word = "solved" if self.has_answer else "agreed"
        return word if self.is_solved else f"not {word}"


def summarise(record: Mapping[str, Any]) -> Summary:
    """Returns the figures of a record."""
    nodes, counts = record["nodes"], record["counts"]
    return Summary(
        problem_id=record["problem_id"],
        configuration=record["configuration"],
        has_answer=record["answer"] is not None,
        rollouts=len(record["rollouts"]),
        rewarded=sum(nodes[path[-1]]["reward"] == 1.0 for path in record["rollouts"]),
        kinds=Counter(node["kind"] for node in nodes),
        visited=sum(node["visits"] > 0 for node in nodes),
        labels=Counter(hit["label"] for node in nodes for hit in node["retrieved"] or ()),
        verdicts=Counter(node["verdict"]["how"] for node in nodes if node["verdict"]),
        uses=len(uses(record)),
        calls=counts["calls"],
        cached=counts["cached"],
        prompt_tokens=counts["prompt_tokens"],
        generated_tokens=counts["generated_tokens"],
        paid_prompt_tokens=counts["paid_prompt_tokens"],
        paid_generated_tokens=counts["paid_generated_tokens"],
        unparsable=Counter(counts["unparsable"]),
        failed=Counter(counts["failed"]),
        seconds=record["seconds"],
    )
