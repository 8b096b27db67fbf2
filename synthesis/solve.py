"""One problem from its text to its record: where the tree, the actions, the model, the theorems and the verifier meet.

:func:`solve` goes on in rounds until the search is finished: it asks the tree for trials, works on all of them at
once, and tells the tree what came of each. A trial is a call of the language model, or for theorems a search and some
calls for each theorem that was found. Everything that is drawn at random is drawn from the settings' seed, the problem,
the node and the slot, so the record is the same at any concurrency and after any restart, if the model's answers are.

An answer that no parser understands, and a call that cannot be answered, are counted and lead to no child. Where that
leaves the root alone, it is no search that came to nothing: an :class:`UnansweredError`. A
:class:`~radar_llm.calls.ServerError` ends the problem.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from radar_answers import consensus
from radar_llm.calls import Completion as Answer
from radar_llm.calls import GenerationError, Request
from synthesis.actions import (
    Candidates,
    Completion,
    Prompt,
    Reasoning,
    Reflection,
    ReflectionReason,
    SameAnswer,
    Step,
    Summary,
    Thought,
    Unparsable,
)
from synthesis.problems import Problem
from synthesis.retriever.port import QueryError
from synthesis.settings import Settings
from synthesis.store import SCHEMA, Record
from synthesis.tree import Child, Kind, State, Trial, ask, start, tell

if TYPE_CHECKING:
    from radar_answers import Judge, Verifier
    from radar_llm import Generator
    from synthesis.retriever import Hit, Theorems

T = TypeVar("T")


class UnansweredError(RuntimeError):
    """Calls of a problem failed before anything came of it; the message is what the last one met."""


@dataclass(frozen=True)
class Parts:
    """What problems are solved with.

    Attributes:
        generator: The language model.
        theorems: The corpus and what ranks it.
        verifier: Compares answers.
        settings: How to search.
        configuration: The digest that names all of this in records (:meth:`Settings.digest`).
    """

    generator: Generator
    theorems: Theorems
    verifier: Verifier
    settings: Settings
    configuration: str


@dataclass
class Counts:
    """What a problem asked of the language model.

    Attributes:
        calls: All answers, those of the cache included.
        cached: Those of the cache.
        prompt_tokens: Tokens read for all answers, whenever that was.
        generated_tokens: Tokens written for them.
        paid_prompt_tokens: Of the former, those for answers that weren't in the cache.
        paid_generated_tokens: The same of the latter.
        unparsable: Answers that no parser understood, by action.
        failed: Calls that could not be answered, by action, and queries that were refused as ``retrieval``.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    paid_prompt_tokens: int = 0
    paid_generated_tokens: int = 0
    unparsable: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        """Counts an answer."""
        self.calls += 1
        self.cached += answer.is_cached
        self.prompt_tokens += answer.prompt_tokens
        self.generated_tokens += answer.generated_tokens
        if not answer.is_cached:
            self.paid_prompt_tokens += answer.prompt_tokens
            self.paid_generated_tokens += answer.generated_tokens


async def solve(problem: Problem, parts: Parts) -> Record:
    """Searches for solutions of one problem (paper §4).

    Without a gold answer, solutions are drawn first, and the answer that enough of them agree on stands in for it; if
    none does, the record has a root and no rollouts.

    Returns:
        The record, as note 0003 describes it.

    Raises:
        UnansweredError: If nothing came of the root, and calls failed.
        ServerError: If the language model cannot be asked at all.
    """
    began = time.monotonic()
    search = _Search(problem, parts)
    state = start(parts.settings.tree, f"{parts.settings.seed} {problem.id}")
    agreed = None if problem.answer else await search.agree()
    if search.gold:
        while trials := ask(state):
            outcomes = await _together(search.children(state, trial) for trial in trials)
            for trial, children in zip(trials, outcomes, strict=True):
                tell(state, trial, children)
    if search.refusal and len(state.parent) == 1:
        raise UnansweredError(str(search.refusal))
    return {
        "schema": SCHEMA,
        "problem_id": problem.id,
        "configuration": parts.configuration,
        "problem": problem.text,
        "answer": problem.answer or None,
        "choices": None if problem.choices is None else list(problem.choices),
        "consensus": agreed,
        "nodes": [_node(state, number) for number in range(len(state.parent))],
        "rollouts": state.rollouts,
        "counts": asdict(search.counts),
        "seconds": round(time.monotonic() - began, 3),
    }


class _Search:
    """The trials of one problem."""

    def __init__(self, problem: Problem, parts: Parts):
        self._problem, self._parts = problem, parts
        self._settings, self._sampling = parts.settings, parts.settings.actions
        self.gold = problem.answer or None
        self.counts = Counts()
        self.refusal: Exception | None = None

    async def children(self, state: State, trial: Trial) -> list[Child]:
        """Works on one trial; nothing came of it if the list is empty."""
        path = state.path(trial.node)
        steps = [Step(state.kind[node], state.content[node]["text"]) for node in path[1:]]
        if trial.kind is Kind.THEOREM:
            on_path = {state.content[node]["docno"] for node in path if state.kind[node] is Kind.THEOREM}
            return await self._theorems(state.content[trial.node], steps, on_path)
        seed = _seed(self._settings.seed, self._problem.id, trial.node, trial.slot)
        if trial.kind is Kind.THOUGHT:
            return await self._thought(steps, seed)
        if trial.kind is Kind.COMPLETION:
            return await self._completion(steps, seed)
        return await self._queries(steps, seed)

    async def agree(self) -> dict[str, Any]:
        """Draws solutions, and takes for the gold answer what enough of them agree on."""
        wanted = self._settings.consensus
        action = Completion(self._sampling.completion)
        prompt = action.prompt(self._problem.text, ())
        seed = _seed(self._settings.seed, self._problem.id, "consensus")
        drawn = await _together(self._ask(action, prompt, seed=seed, sample=sample) for sample in range(wanted.samples))
        answers = [None if reasoning is None else reasoning.answer for reasoning, _ in drawn]
        judging: list[str] = []
        judge = self._answer_judge(judging)
        agreed = await consensus(self._parts.verifier, answers, choices=self._problem.choices, judge=judge)
        if agreed is not None and agreed.share >= wanted.share:
            self.gold = agreed.answer
        votes = 0 if agreed is None else agreed.votes
        said = {"answer": self.gold, "votes": votes, "total": len(drawn)}
        return said | {"calls": [call for _, calls in drawn for call in calls] + judging}

    async def _thought(self, steps: Sequence[Step], seed: int) -> list[Child]:
        action = Thought(self._sampling.thought)
        reasoning, calls = await self._ask(action, action.prompt(self._problem.text, steps), seed=seed)
        if reasoning is None:
            return []
        if reasoning.answer is None:
            return [Child(_content(reasoning.text, calls))]
        return [await self._solution(reasoning, calls)]

    async def _completion(self, steps: Sequence[Step], seed: int) -> list[Child]:
        """Draws samples until one is right, and keeps that one, or else the first that states an answer."""
        action = Completion(self._sampling.completion)
        request = Request(action.prompt(self._problem.text, steps), action.sampling, seed)
        samples = self._parts.generator.samples(
            request, action.sampling.samples, route=self._problem.id, ahead=self._settings.samples_ahead
        )
        best: Child | None = None
        try:
            async with aclosing(samples):
                async for answer in samples:
                    reasoning = self._read(action, request, answer)
                    if reasoning is None:
                        continue
                    solution = await self._solution(reasoning, [answer.call])
                    if best is None or solution.reward:
                        best = solution
                    if solution.reward:
                        break
        except GenerationError as error:
            self._note_failure(request.prompt.name, error)
        return [] if best is None else [best]

    async def _queries(self, steps: Sequence[Step], seed: int) -> list[Child]:
        action = Candidates(self._sampling.candidates)
        candidates, calls = await self._ask(action, action.prompt(self._problem.text, steps), seed=seed)
        return [Child(_content(found.query, calls, candidate=asdict(found))) for found in candidates or ()]

    async def _theorems(self, query: dict[str, Any], steps: Sequence[Step], on_path: set[str]) -> list[Child]:
        """Retrieves, judges every theorem on its own, and notes them all with the query node."""
        try:
            hits = await self._parts.theorems.search(query["text"], self._settings.tree.max_theorems)
        except QueryError as error:
            self._note_failure("retrieval", error)
            hits = []
        query["retrieved"] = await _together(self._judge(hit, steps, on_path) for hit in hits)
        accepted = [hit["docno"] for hit in query["retrieved"] if hit["label"] == "relevant"]
        return await _together(self._theorem(docno) for docno in accepted)

    async def _judge(self, hit: Hit, steps: Sequence[Step], on_path: set[str]) -> dict[str, Any]:
        """Returns a theorem's entry among those that a query retrieved."""
        judged: dict[str, Any] = {"docno": hit.docno, "score": hit.score, "label": "on_path"}
        judged |= {"probability": None, "reason": None, "calls": []}
        if hit.docno in on_path:
            return judged
        text = self._parts.theorems.text(hit.docno)
        action = Reflection(self._sampling.reflection)
        relevance, calls = await self._ask(action, action.prompt(self._problem.text, steps, text))
        if relevance is None:
            return judged | {"label": "unparsable" if calls else "failed", "calls": calls}
        judged["label"] = "relevant" if relevance.is_relevant else "irrelevant"
        judged["probability"] = relevance.probability
        if self._settings.reasons:
            asked = ReflectionReason(self._sampling.reflection_reason)
            prompt = asked.prompt(self._problem.text, steps, text, relevance.is_relevant)
            judged["reason"], more = await self._ask(asked, prompt)
            calls = calls + more
        return judged | {"calls": calls}

    async def _theorem(self, docno: str) -> Child:
        """Summarises a theorem: the same request for all problems, so the call cache answers all but the first."""
        text = self._parts.theorems.text(docno)
        action = Summary(self._sampling.summary)
        summary, calls = await self._ask(action, action.prompt(text), route=docno)
        # Without a summary the theorem stands there in its own words: it was found relevant.
        return Child(_content(summary or text, calls, docno=docno))

    async def _solution(self, reasoning: Reasoning, calls: list[str]) -> Child:
        assert self.gold is not None  # else there is no search
        judging: list[str] = []
        verdict = await self._parts.verifier.check(
            self.gold, reasoning.answer, choices=self._problem.choices, judge=self._answer_judge(judging)
        )
        content = _content(reasoning.text, calls + judging, answer=reasoning.answer, verdict=asdict(verdict))
        return Child(content, is_terminal=True, reward=float(verdict.is_right))

    def _answer_judge(self, judging: list[str]) -> Judge | None:
        """Returns the language model as a judge of two answers, whose calls are noted; None if it isn't wanted."""
        if not self._settings.verifier.judge:
            return None
        action = SameAnswer(self._sampling.same_answer)

        async def judge(gold: str, answer: str) -> bool | None:
            is_same, calls = await self._ask(action, action.prompt(self._problem.text, gold, answer))
            judging.extend(calls)
            return is_same

        return judge

    async def _ask(
        self, action: Any, prompt: Prompt, *, seed: int | None = None, sample: int = 0, route: str = ""
    ) -> tuple[Any, list[str]]:
        """Returns what an action's answer says, None if that is nothing, and the keys of the calls that were answered.

        Without a seed of its own a call has the run's, so that equal questions from anywhere are one call.
        """
        request = Request(prompt, action.sampling, self._settings.seed if seed is None else seed)
        try:
            answer = await self._parts.generator.complete(request, sample=sample, route=route or self._problem.id)
        except GenerationError as error:
            self._note_failure(request.prompt.name, error)
            return None, []
        return self._read(action, request, answer), [answer.call]

    def _read(self, action: Any, request: Request, answer: Answer) -> Any:
        self.counts.add(answer)
        if isinstance(action, Reflection):
            outcome: Any = action.parse(answer.text, answer.choice_probabilities)
        elif isinstance(action, Candidates | Summary):
            outcome = action.parse(answer.text, is_cut=answer.finish_reason == "length")
        else:
            outcome = action.parse(answer.text)
        if isinstance(outcome, Unparsable):
            _count(self.counts.unparsable, request.prompt.name)
            return None
        return outcome

    def _note_failure(self, name: str, error: Exception) -> None:
        _count(self.counts.failed, name)
        self.refusal = error


def _count(counter: dict[str, int], name: str) -> None:
    counter[name] = counter.get(name, 0) + 1


def _seed(*place: object) -> int:
    """Returns the seed of a place in a problem's tree; not ``hash``, which differs between processes."""
    return int.from_bytes(blake2b(repr(place).encode("utf-8", "replace"), digest_size=7).digest(), "big")


def _content(text: str, calls: list[str], **values: Any) -> dict[str, Any]:
    """Returns what a record says of a node but for its place and its statistics."""
    nothing = {"answer": None, "verdict": None, "docno": None, "candidate": None, "retrieved": None}
    return {"text": text, **nothing, **values, "calls": calls}


def _node(state: State, number: int) -> dict[str, Any]:
    return {
        "parent": state.parent[number],
        "kind": state.kind[number].value,
        "depth": state.depth[number],
        "visits": state.visits[number],
        "value": state.value[number],
        "is_terminal": state.is_terminal[number],
        "reward": state.reward[number],
    } | (state.content[number] or _content("", []))


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Returns all results in order; the first error cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
