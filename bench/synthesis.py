"""Throughput of synthesis on the tests' reference solver, against a scheduler of threads that are sequential inside.

    python bench/synthesis.py                                   # 128 problems, 16 slots
    python bench/synthesis.py --slots 64 --problems 512 --threads 64
    python bench/synthesis.py --memory                          # peak memory for 1,000 and for 10,000 problems
    python bench/synthesis.py --url http://localhost:8000/v1 --model radar --max-tokens 64 --noise     # on vLLM

The peer is the shape of the reference implementation: each thread takes a problem and makes one call after the other,
but for the four samples of a completion, which run at one time as the sequences of one request do; and it summarises
every theorem that is retrieved, whenever it is, before it is judged. Tree, prompts, parsers and theorems are ours, so
both work on the same kind of trees. It is spared what else the reference implementation does: reasons with the labels,
a language model that compares answers, an HTTP call for each embedding.
``threads-cached`` summarises accepted theorems alone, and once; it stops at the first right sample. The rest of its
distance is scheduling.

What the reference design spends is counted, not run: ``calls_reference`` are its calls for the very trees that ours
stored, see :func:`reference_calls`. A call is one generated answer everywhere here: four samples of a request are four.

The solver serves a number of slots; an answer takes its first token's time and then each token's. ``busy`` is the share
of the slots in use from the first call to the last. CPU is that of the client's process, for each call.

With ``--url`` a vLLM server takes the solver's place: ``busy`` is then unknown. One with random weights writes noise,
without an end and without theorems: ``--max-tokens`` ends it, and ``--noise`` constrains candidates to theorems of the
corpus, so that calls of every kind are made. Nothing is solved then, so no completion ends with its first sample.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from harness import interleave, report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

CALLS = "solver:calls_total|vllm:request_success_total"
SYSTEMS = ["threads", "threads-cached", "radar"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=128)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=16, help="problems that the peer works on at once")
    parser.add_argument("--concurrency", type=int, default=256, help="problems that ours works on at once")
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--max-depth", type=int, default=6)
    parser.add_argument("--first-token-seconds", type=float, default=0.02)
    parser.add_argument("--token-seconds", type=float, default=0.001)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", default="", help="a vLLM server that is asked instead of the solver")
    parser.add_argument("--model", default="solver")
    parser.add_argument("--max-tokens", type=int, default=1024, help="the longest answer of any action")
    parser.add_argument("--noise", action="store_true", help="candidates are constrained to theorems of the corpus")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        run(arguments)
    elif arguments.memory:
        compare_memory()
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    names = ("problems", "slots", "threads", "concurrency", "rollouts", "max_depth", "first_token_seconds")
    shared = ["--noise"] if arguments.noise else []
    for name in (*names, "token_seconds", "url", "model", "max_tokens"):
        shared += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    figures = interleave(__file__, SYSTEMS, arguments.rounds, shared)
    print(f"\n{arguments.problems} problems, {arguments.slots} slots, {arguments.threads} threads")
    print(f"{'':16}{'problems/h':>12}{'busy':>8}{'calls/problem':>15}{'CPU ms/call':>13}{'solved':>8}{'MiB':>7}")
    for system, values in figures.items():
        print(
            f"{system:16}{values['problems_per_hour']:12,.0f}{values['busy']:8.2f}{values['calls_per_problem']:15.1f}"
            f"{values['cpu_ms_per_call']:13.2f}{values['solved']:8.2f}{values['peak_mib']:7.0f}"
        )
    ours, peer, cached = (figures[system] for system in ("radar", "threads", "threads-cached"))
    pace = ours["problems_per_hour"]
    print(f"\nslots busy                     {ours['busy']:6.2f}     (aim: at least 0.9)")
    print(f"CPU of a call, ms              {ours['cpu_ms_per_call']:6.2f}     (aim: at most 2)")
    calls, reference = ours["calls_per_problem"], ours["calls_reference"]
    print(f"calls over the threads'        {calls / peer['calls_per_problem']:6.2f}")
    print(f"calls_reference, a problem     {reference:6.1f}")
    print(f"calls over the reference's     {calls / reference:6.2f}     (aim: at most 0.6)")
    print(f"… if it compares answers too   {calls / (reference + ours['comparisons_reference']):6.2f}")
    print(f"faster than cached threads     {pace / cached['problems_per_hour']:6.2f} x")
    print(f"faster than threads            {pace / peer['problems_per_hour']:6.2f} x   (aim: at least 1.5)")


def compare_memory() -> None:
    """Peak memory for tiny trees, ten times as many of them the second time."""
    tiny = [
        "--rollouts",
        "1",
        "--max-depth",
        "1",
        "--slots",
        "64",
        "--first-token-seconds",
        "0",
        "--token-seconds",
        "0",
    ]
    peaks = [
        interleave(__file__, ["radar"], 1, ["--problems", str(number), *tiny])["radar"]["peak_mib"]
        for number in (1_000, 10_000)
    ]
    print(f"\n10,000 problems over 1,000, peak memory   {peaks[1] / peaks[0]:6.2f}   (aim: 1.0)")


def run(arguments: argparse.Namespace) -> None:
    """One system in this process, a solver of its own in another."""
    # What is imported by either is imported before the clock starts.
    import openai  # noqa: F401

    import radar_llm  # noqa: F401
    import synthesis.run  # noqa: F401
    from tests.synthesis.parts import solver_process
    from tests.synthesis.solver import problems

    work = {"radar": radar, "threads": threads, "threads-cached": threads}[arguments.system]
    reference: dict[str, float] = {}
    serving = ["--slots", arguments.slots, "--first-token-seconds", arguments.first_token_seconds]
    serving += ["--token-seconds", arguments.token_seconds]
    server = nullcontext(arguments.url) if arguments.url else solver_process(*serving)
    with tempfile.TemporaryDirectory() as folder, server as url:
        before = metric(url, CALLS)
        began, cpu = time.perf_counter(), time.process_time()
        # The world has some hundred problems of each family; under another id a problem has other seeds.
        known = problems(min(arguments.problems, 1_000))
        asked = [known[n % 1_000] | {"id": f"problem-{n}"} for n in range(arguments.problems)]
        solved = work(url, asked, Path(folder), arguments)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        busy_seconds, calls = metric(url, "solver:busy_seconds_total"), metric(url, CALLS) - before
        if work is radar:
            reference = reference_figures(Path(folder))
    report(
        problems_per_hour=round(3600 * arguments.problems / seconds),
        seconds=round(seconds, 2),
        busy=round(busy_seconds / (arguments.slots * seconds), 3),
        calls_per_problem=round(calls / arguments.problems, 1),
        cpu_ms_per_call=round(1000 * cpu / calls, 3),
        solved=round(solved / arguments.problems, 3),
        **reference,
    )


def reference_calls(record: Mapping[str, Any]) -> Counter[str]:
    """The calls that the reference design makes for the tree of a record, by action.

    In quotes is what the specification says of the paper (§4) and of the defects of its code. Trials that came to
    nothing left no node, so their calls are not counted.
    """
    nodes = record["nodes"]
    kinds = Counter(node["kind"] for node in nodes)
    # "not already on the path": the others are neither judged nor summarised.
    met = sum(hit["label"] != "on_path" for node in nodes for hit in node["retrieved"] or ())
    wrong = Counter(node["kind"] for node in nodes if node["verdict"] and not node["verdict"]["is_right"])
    return Counter(
        thought=kinds["thought"],  # "2 children per one-step-thought expansion", each generated
        completion=4 * kinds["completion"],  # "4 samples per completion": all are drawn, the last one's reward counts
        # "asks for candidate theorems (…); each parsed candidate becomes its own QG child": one call for all of a node
        candidates=len({node["parent"] for node in nodes if node["kind"] == "query"}),
        reflection=met,  # "retrieve top 5", "with self-reflection (relevance label + reason)": both in one call
        summary=met,  # "every theorem re-summarised at each visit": the released code does so before it judges
        # Not in the specification, so not in calls_reference: the released code asks the model about each answer that
        # its own comparison finds wrong. Of right completions, whose other samples may be wrong, none is counted.
        comparison=wrong["thought"] + 4 * wrong["completion"],
    )


def reference_figures(folder: Path) -> dict[str, float]:
    from synthesis.run import STORE_FILE
    from synthesis.store import Store

    with Store(folder / STORE_FILE) as store:
        total, problems = sum(map(reference_calls, store), Counter[str]()), len(store)
    comparisons = total.pop("comparison", 0)
    return {
        "calls_reference": round(total.total() / problems, 1),
        "comparisons_reference": round(comparisons / problems, 1),
    }


def metric(url: str, name: str) -> float:
    """A metric of the server, all its labels together; not a number if it has none of that name."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as answer:
        found = re.findall(rf"^(?:{name})(?:{{.*}})? (\S+)$", answer.read().decode(), re.MULTILINE)
    return sum(map(float, found)) if found else float("nan")


def tree_settings(arguments: argparse.Namespace) -> Any:
    from synthesis.tree import TreeSettings

    return TreeSettings(rollouts=arguments.rollouts, max_depth=arguments.max_depth)


def action_settings(arguments: argparse.Namespace) -> Any:
    """How the model is asked by each action."""
    from synthesis.settings import ActionSettings
    from tests.synthesis.solver import theorems

    settings = dict(vars(ActionSettings()))
    for name, sampling in settings.items():
        settings[name] = replace(sampling, max_tokens=min(sampling.max_tokens, arguments.max_tokens))
    if arguments.noise:
        statements = (" ".join(text.split()[:8]) for text in theorems().values())
        choice = tuple(f"Name: it\nStatement: {statement}" for statement in statements)
        settings["candidates"] = replace(settings["candidates"], max_tokens=512, choice=choice)
    return ActionSettings(**settings)


def radar(url: str, problems: list[dict[str, str]], folder: Path, arguments: argparse.Namespace) -> int:
    from synthesis.run import synthesize
    from synthesis.settings import GeneratorSettings, Settings
    from tests.synthesis.parts import LiteralVerifier, WordTheorems

    settings = Settings(
        generator=GeneratorSettings(urls=(url,), model=arguments.model, in_flight=arguments.slots * 3 // 2),
        tree=tree_settings(arguments),
        actions=action_settings(arguments),
        concurrency=arguments.concurrency,
    )
    theorems = WordTheorems()
    return synthesize(
        problems,
        theorems.texts,
        folder,
        settings=settings,
        theorems=theorems,
        verifier=LiteralVerifier(),  # type: ignore[arg-type]
        progress=False,
    ).solved


def threads(url: str, problems: list[dict[str, str]], folder: Path, arguments: argparse.Namespace) -> int:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    settings = tree_settings(arguments), action_settings(arguments)
    summaries: dict[str, str] | None = {} if arguments.system == "threads-cached" else None
    with ThreadPoolExecutor(arguments.threads) as pool:
        searches = [Sequential(client, arguments.model, problem, *settings, summaries) for problem in problems]
        return sum(pool.map(Sequential.solve, searches))


class Sequential:
    """One problem in one thread, a call at a time.

    Args:
        client: The client, which all threads share.
        model: The model's name.
        problem: With id, text and answer.
        settings: The search.
        actions: How the model is asked by each action.
        summaries: What is remembered of theorems, by all threads; None remembers nothing and draws all samples.
    """

    def __init__(
        self,
        client: Any,
        model: str,
        problem: dict[str, str],
        settings: Any,
        actions: Any,
        summaries: dict[str, str] | None,
    ):
        from tests.synthesis.parts import WordTheorems

        self.client, self.model, self.problem = client, model, problem
        self.settings, self.actions, self.summaries = settings, actions, summaries
        self.theorems = WordTheorems()
        self.seeds = count()

    def solve(self) -> bool:
        """Returns whether a rollout was rewarded."""
        from synthesis import tree

        state = tree.start(self.settings, self.problem["id"])
        while trials := tree.ask(state):
            for trial in trials:
                tree.tell(state, trial, self.children(state, trial))
        return any(state.reward[path[-1]] == 1.0 for path in state.rollouts)

    def children(self, state: Any, trial: Any) -> list[Any]:
        """What a trial comes to."""
        from synthesis.actions import Candidates, Completion, Step, Thought, Unparsable
        from synthesis.tree import Child, Kind

        path = state.path(trial.node)[1:]
        steps = [Step(state.kind[node], state.content[node][0]) for node in path]
        if trial.kind is Kind.THEOREM:
            return self.theorem_nodes(state.content[trial.node][0], steps, {state.content[node][1] for node in path})
        action = {Kind.THOUGHT: Thought, Kind.COMPLETION: Completion, Kind.QUERY: Candidates}[trial.kind]()
        if trial.kind is Kind.COMPLETION:
            return self.completion(action, steps)
        outcome = self.ask(action, action.prompt(self.problem["problem"], steps))
        if isinstance(outcome, Unparsable):
            return []
        if trial.kind is Kind.QUERY:
            return [Child((candidate.query, None)) for candidate in outcome]
        reward = float(outcome.answer == self.problem["answer"])
        return [Child((outcome.text, None), outcome.answer is not None, reward)]

    def completion(self, action: Any, steps: list[Any]) -> list[Any]:
        """The best of four samples, drawn at one time; with ``summaries``, one after the other until one is right."""
        from synthesis.actions import Unparsable
        from synthesis.tree import Child

        prompt = action.prompt(self.problem["problem"], steps)

        def sample(_: int) -> Any:
            return self.ask(action, prompt)

        best = None
        samples = range(action.sampling.samples)
        with ThreadPoolExecutor(len(samples)) as pool:
            for outcome in (pool.map if self.summaries is None else map)(sample, samples):
                if not isinstance(outcome, Unparsable):
                    reward = float(outcome.answer == self.problem["answer"])
                    if best is None or reward > best.reward:
                        best = Child((outcome.text, None), True, reward)
                if self.summaries is not None and best is not None and best.reward:
                    break
        return [] if best is None else [best]

    def theorem_nodes(self, query: str, steps: list[Any], on_path: set[str | None]) -> list[Any]:
        """The accepted theorems among those retrieved."""
        from synthesis.actions import Reflection, Relevance
        from synthesis.tree import Child

        children = []
        for hit in asyncio.run(self.theorems.search(query, self.settings.max_theorems)):
            if hit.docno in on_path:
                continue
            action, text = Reflection(), self.theorems.text(hit.docno)
            summary = self.summary(hit.docno, text) if self.summaries is None else ""
            judged = self.ask(action, action.prompt(self.problem["problem"], steps, text))
            if isinstance(judged, Relevance) and judged.is_relevant:
                children.append(Child((summary or self.summary(hit.docno, text), hit.docno)))
        return children

    def summary(self, docno: str, text: str) -> str:
        """A theorem in a sentence."""
        from synthesis.actions import Summary

        if self.summaries is not None and docno in self.summaries:
            return self.summaries[docno]
        action = Summary()
        outcome = self.ask(action, action.prompt(text))
        summary = outcome if isinstance(outcome, str) else text
        if self.summaries is not None:
            self.summaries[docno] = summary
        return summary

    def ask(self, action: Any, prompt: Any) -> Any:
        """What an action's answer says."""
        from radar_llm import wire
        from radar_llm.calls import Request

        sampling = getattr(self.actions, type(action).__name__.lower())
        request = Request(prompt, sampling, next(self.seeds))
        answered = self.client.post("/chat/completions", body=wire.body(self.model, request, 0), cast_to=object)
        return action.parse(answered["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
