"""One problem from its text to its record, against the solver, whose truth is known."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from radar_answers import Verifier
from radar_llm import Generator
from radar_llm.cache import CallCache
from radar_llm.calls import ServerError
from synthesis.problems import Problem
from synthesis.report import write_report
from synthesis.retriever import QueryError
from synthesis.settings import ConsensusSettings, Settings, VerifierSettings
from synthesis.solve import Parts, UnansweredError, _seed, solve
from synthesis.store import Record
from synthesis.tree import Kind
from synthesis.uses import judgements
from tests.synthesis.parts import SMALL, LiteralVerifier, WordTheorems, content, small_parts, some_problems, with_tree
from tests.synthesis.solver import Faults, Mind, Solver, truth


class Script(Mind):
    """A mind whose completions come to given answers, one after the other."""

    def says(self, answers: Iterable[str]) -> Script:
        object.__setattr__(self, "answers", iter(answers))
        return self

    def _completion(self, asked):
        return next(self.answers)


def solved(
    problem: Problem, *, mind: Mind | None = None, settings: Settings = SMALL, retries: int = 3, **server
) -> tuple[Record, Solver]:
    """One problem's record, and the server that was asked."""

    async def go() -> tuple[Record, Solver]:
        async with Solver(mind, **server) as served, small_parts(served, settings=settings, retries=retries) as parts:
            return await solve(problem, parts), served

    return asyncio.run(go())


def boxed(*answers: str) -> list[str]:
    return [f"It is $\\boxed{{{answer}}}$." for answer in answers]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """The records of a few problems."""

    async def go() -> list[Record]:
        async with Solver() as served, small_parts(served) as parts:
            return list(await asyncio.gather(*(solve(problem, parts) for problem in some_problems(4))))

    return asyncio.run(go())


# One rollout of depth 1 asks for the children of the root alone.
ROOT_ONLY = with_tree(rollouts=1, max_depth=1)


@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize(
    ("answers", "kept", "reward"),
    [
        (["1", "2", "GOLD", "3"], "GOLD", 1.0),
        (["GOLD", "1", "2", "3"], "GOLD", 1.0),  # the last sample's reward is not the node's
        (["1", "2", "3", "GOLD"], "GOLD", 1.0),
        (["1", "2", "3", "4"], "1", 0.0),
    ],
)
def test_a_completion_keeps_its_best_sample_with_that_samples_reward(answers, kept, reward, ahead):
    (problem,) = some_problems(1)
    answers = [problem.answer if answer == "GOLD" else answer for answer in answers]
    script = Script().says(boxed(*answers))
    record, served = solved(problem, mind=script, settings=replace(ROOT_ONLY, samples_ahead=ahead))
    (node,) = (node for node in record["nodes"] if node["kind"] == "completion")
    expected = problem.answer if kept == "GOLD" else kept
    if ahead == 1:
        right = answers.index(problem.answer) + 1 if problem.answer in answers else 4
        assert served.tally.calls["completion"] == right, "samples after the first right one are not asked for"
        assert node["answer"] == expected
    assert (node["reward"], node["is_terminal"]) == (reward, True)
    assert node["verdict"] == {"is_right": reward == 1.0, "how": "literal"}
    assert (node["answer"] == problem.answer) == (reward == 1.0)
    assert node["text"].endswith(f"{{{node['answer']}}}$.")


def test_samples_without_an_answer_are_counted_and_make_no_node():
    (problem,) = some_problems(1)
    record, _ = solved(problem, mind=Script().says(["no", "\\boxed{", "", "none"]), settings=ROOT_ONLY)
    assert record["counts"]["unparsable"]["completion"] == 4
    assert all(node["kind"] != "completion" for node in record["nodes"])


def test_every_theorem_is_judged_on_its_own_and_labelled_with_the_truth(records):
    for record in records:
        relevant = truth(record["problem"]).theorems
        labelled = [hit for node in record["nodes"] for hit in node["retrieved"] or ()]
        judged = [hit for hit in labelled if hit["label"] != "on_path"]
        assert {hit["label"] for hit in judged} == {"relevant", "irrelevant"}
        for hit in judged:
            assert (hit["label"] == "relevant") == (hit["docno"] in relevant)
            assert 0 <= hit["probability"] <= 1 and (hit["probability"] > 0.5) == (hit["label"] == "relevant")
            assert len(hit["calls"]) == 1


def test_accepted_theorems_become_nodes_in_the_order_of_the_ranking_and_rejected_ones_never_do(records):
    for record in records:
        for number, node in enumerate(record["nodes"]):
            children = [child for child in record["nodes"] if child["parent"] == number]
            found = [child["docno"] for child in children if child["kind"] == "theorem"]
            assert found == [hit["docno"] for hit in node["retrieved"] or () if hit["label"] == "relevant"]
            assert len(node["retrieved"] or ()) in (0, 5)


def test_a_theorem_comes_once_on_a_path():
    class Forgetful(Mind):
        def _candidates(self, asked):
            return super()._candidates(replace(asked, steps=()))

    record, _ = solved(some_problems(1)[0], mind=Forgetful(insight=1.0), settings=with_tree(rollouts=8, max_depth=6))
    nodes = record["nodes"]
    assert any(hit["label"] == "on_path" for node in nodes for hit in node["retrieved"] or ())
    for path in record["rollouts"]:
        docnos = [nodes[number]["docno"] for number in path if nodes[number]["docno"]]
        assert len(docnos) == len(set(docnos))


def test_an_equal_theorem_is_summarised_once_for_all_problems():
    async def go() -> tuple[list[Record], int]:
        async with Solver() as served, small_parts(served, settings=with_tree(rollouts=2)) as parts:
            records = await asyncio.gather(*(solve(problem, parts) for problem in some_problems(21)[::10]))
            return list(records), served.tally.calls["summary"]

    records, summaries = asyncio.run(go())
    theorems = Counter(node["docno"] for record in records for node in record["nodes"] if node["docno"])
    assert summaries == len(theorems) < theorems.total()


def test_garbage_is_counted_and_stalls_nothing():
    unparsable: Counter[str] = Counter()
    for problem in some_problems(3):
        record, _ = solved(problem, mind=Mind(broken=0.5), settings=with_tree(rollouts=2))
        assert len(record["rollouts"]) == 2
        unparsable.update(record["counts"]["unparsable"])
    assert unparsable.keys() >= {"thought", "completion", "candidates"}


def test_a_theorem_without_a_usable_judgement_is_unparsable_and_no_node():
    class Mute(Mind):
        def _relevance(self, asked):
            return "Perhaps"

    record, _ = solved(some_problems(1)[0], mind=Mute())
    labels = Counter(hit["label"] for node in record["nodes"] for hit in node["retrieved"] or ())
    assert labels["unparsable"] and set(labels) == {"unparsable"}
    assert record["counts"]["unparsable"]["reflection"] == labels["unparsable"]
    assert all(hit["calls"] for node in record["nodes"] for hit in node["retrieved"] or ())
    assert all(node["kind"] != "theorem" for node in record["nodes"])


def test_a_call_that_is_refused_is_a_failed_trial():
    record, _ = solved(some_problems(1)[0], refused=["candidates"])
    assert record["counts"]["failed"].keys() == {"candidates"} and len(record["rollouts"]) == 3
    assert {node["kind"] for node in record["nodes"]} == {"root", "thought", "completion"}


def test_a_problem_whose_first_calls_all_failed_has_no_record():
    with pytest.raises(UnansweredError, match="maximum context length"):
        solved(some_problems(1)[0], longest_prompt=10)
    consensus = replace(ROOT_ONLY, consensus=ConsensusSettings(samples=4))
    with pytest.raises(UnansweredError, match="This prompt is refused"):
        solved(replace(some_problems(1)[0], answer=None), refused=["completion"], settings=consensus)


def test_a_judgement_that_failed_is_labelled_so_and_counted_once():
    record, _ = solved(some_problems(1)[0], refused=["reflection"])
    hits = [hit for node in record["nodes"] for hit in node["retrieved"] or ()]
    assert hits and {hit["label"] for hit in hits} == {"failed"} and not any(hit["calls"] for hit in hits)
    assert record["counts"]["failed"]["reflection"] == len(hits)
    assert "reflection" not in record["counts"]["unparsable"]
    assert judgements(record).unclear == {hit["docno"] for hit in hits}


def test_a_query_that_the_retriever_refuses_has_failed_and_finds_nothing():
    class Refusing(WordTheorems):
        async def search(self, query, k):
            raise QueryError(query, "it is too long")

    async def go() -> Record:
        async with Solver() as served, small_parts(served) as parts:
            return await solve(some_problems(1)[0], replace(parts, theorems=Refusing()))

    record = asyncio.run(go())
    searched = [node["retrieved"] for node in record["nodes"] if node["retrieved"] is not None]
    assert searched and not any(searched) and record["counts"]["failed"] == {"retrieval": len(searched)}
    assert len(record["rollouts"]) == 3


def test_a_summary_that_was_cut_off_is_unparsable_and_the_theorem_stands_in_its_own_words():
    record, _ = solved(some_problems(1)[0], cut=["summary", "thought"])
    theorems = [node for node in record["nodes"] if node["kind"] == "theorem"]
    assert theorems and all(node["text"] == WordTheorems().text(node["docno"]) for node in theorems)
    assert record["counts"]["unparsable"]["summary"] == len(theorems)
    assert any(node["kind"] == "thought" for node in record["nodes"])


def test_of_candidates_that_were_cut_off_the_last_makes_no_query():
    whole, cut = (solved(some_problems(1)[0], cut=tasks)[0]["nodes"] for tasks in ((), ["candidates"]))
    names = [[n["candidate"]["name"] for n in nodes if n["parent"] == 0 and n["candidate"]] for nodes in (whole, cut)]
    assert len(names[0]) > 1 and names[1] == names[0][:-1]


def test_a_server_that_is_gone_ends_the_problem():
    with pytest.raises(ServerError, match="no server answers"):
        solved(some_problems(1)[0], faults=Faults(down=(0.0, 1e9)), retries=0)


def test_the_same_problem_has_the_same_record_in_any_company():
    first, *others = some_problems(3)

    async def go(problems: list[Problem]) -> Record:
        async with Solver(Mind(broken=0.1)) as served, small_parts(served) as parts:
            records = await asyncio.gather(*(solve(problem, parts) for problem in problems))
            return records[problems.index(first)]

    alone, together = asyncio.run(go([first])), asyncio.run(go([*others, first]))
    assert content(alone) == content(together)


def test_nodes_name_the_calls_that_made_them():
    async def go() -> None:
        calls = CallCache(":memory:")
        async with Solver() as served, Generator([served.url], "solver", cache=calls) as generator:
            parts = Parts(generator, WordTheorems(), LiteralVerifier(), SMALL, "c0ffee")
            for problem in some_problems(2):
                record = await solve(problem, parts)
                prompts = {"thought": "thought", "completion": "completion", "query": "candidates"}
                for node in record["nodes"][1:]:
                    for call in node["calls"]:
                        asked = calls.read(call)
                        assert asked["prompt"] == prompts.get(node["kind"], "summary")
                        if node["kind"] != "query":
                            assert node["text"].strip() in asked["completion"]["text"]
                    assert node["calls"]

    asyncio.run(go())


def test_reasons_are_asked_for_where_they_are_wanted():
    record, _ = solved(some_problems(1)[0], settings=replace(SMALL, reasons=True))
    hits = [hit for node in record["nodes"] for hit in node["retrieved"] or () if hit["label"] != "on_path"]
    assert hits and all(hit["reason"] and len(hit["calls"]) == 2 for hit in hits)


@pytest.mark.parametrize(("answers", "agreed"), [(["7", "7", "8", "7"], "7"), (["5", "6", "7", "8"], None)])
def test_without_a_gold_answer_what_enough_solutions_agree_on_stands_in_for_it(answers, agreed):
    problem = replace(some_problems(1)[0], answer=None)
    settings = replace(ROOT_ONLY, consensus=ConsensusSettings(samples=4))
    record, served = solved(problem, mind=Script().says(boxed(*answers, "7")), settings=settings)
    assert record["answer"] is None and record["consensus"]["total"] == 4 and len(record["consensus"]["calls"]) == 4
    if agreed is None:
        assert record["consensus"]["answer"] is None and record["consensus"]["votes"] == 1
        assert record["rollouts"] == [] and len(record["nodes"]) == 1
        return
    assert (record["consensus"]["answer"], record["consensus"]["votes"]) == (agreed, 3)
    completions = [node for node in record["nodes"] if node["kind"] == "completion"]
    assert [(node["answer"], node["reward"]) for node in completions] == [("7", 1.0)]


JUDGED = replace(ROOT_ONLY, verifier=VerifierSettings(judge=True, deadline=20.0))


def judged(answers: Iterable[str], settings: Settings = JUDGED, problem: Problem | None = None, **methods):
    """A record whose completions come to these answers, compared by the real verifier, and the calls behind it.

    ``GOLD`` stands for the gold answer; methods replace those of the mind.
    """
    problem = problem or some_problems(1)[0]
    script = type("Judging", (Script,), methods)().says(
        boxed(*(a.replace("GOLD", problem.answer or "") for a in answers))
    )

    async def go() -> tuple[Record, Solver, list[str]]:
        async with Solver(script) as served, small_parts(served, settings=settings) as parts:
            async with Verifier(deadline=settings.verifier.deadline) as verifier:
                record = await solve(problem, replace(parts, verifier=verifier))
            asked = [body["messages"][-1]["content"] for body in served.bodies if "Given answer:" in str(body)]
            return record, served, asked

    return asyncio.run(go())


def test_nobody_judges_answers_by_default():
    record, served, asked = judged(["GOLD chairs", "GOLD chairs", "GOLD chairs", "GOLD"], ROOT_ONLY)
    (node,) = (node for node in record["nodes"] if node["kind"] == "completion")
    assert (node["answer"], node["reward"]) == (some_problems(1)[0].answer, 1.0)
    assert served.tally.calls["completion"] == 4 and served.tally.calls["same_answer"] == 0 and not asked


def test_the_judge_is_asked_after_letters_and_mathematics_said_no_and_is_counted_like_any_call():
    record, served, asked = judged(["GOLD1 chairs", "GOLD chairs"])
    (node,) = (node for node in record["nodes"] if node["kind"] == "completion")
    assert node["verdict"] == {"is_right": True, "how": "judge"} and node["reward"] == 1.0
    assert served.tally.calls["same_answer"] == len(asked) == 2
    assert record["counts"]["calls"] == served.tally.calls.total()
    assert len(node["calls"]) == 2, "the sample's and the judge's"


@pytest.mark.parametrize("written", ["GOLD", "\\text{GOLD}", "GOLD/1", "2 \\cdot GOLD - GOLD"])
def test_the_judge_is_not_asked_where_letters_or_mathematics_said_yes(written):
    record, served, asked = judged([written])
    (node,) = (node for node in record["nodes"] if node["kind"] == "completion")
    assert node["verdict"]["is_right"] and node["verdict"]["how"] in ("literal", "math")
    assert served.tally.calls["same_answer"] == 0 and not asked


def test_a_judgement_that_cannot_be_read_is_a_no_and_is_shown(tmp_path):
    record, served, _ = judged(["GOLD chairs"] * 4, _same_answer=lambda mind, asked: "Perhaps")
    (node,) = (node for node in record["nodes"] if node["kind"] == "completion")
    assert node["verdict"] == {"is_right": False, "how": "unparsable"} and node["reward"] == 0.0
    assert served.tally.calls["same_answer"] == 1, "the same question is asked once"
    assert record["counts"]["unparsable"]["same_answer"] == 4
    write_report([record], tmp_path)
    assert "| Unparsable: same\\_answer | 4 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_answers_that_the_judge_finds_equal_agree():
    settings = replace(JUDGED, consensus=ConsensusSettings(samples=4))
    problem = replace(some_problems(1)[0], answer=None)
    record, _, asked = judged(["7 chairs", "8", "7", "7 seats", "7"], settings, problem)
    agreed = record["consensus"]
    assert (agreed["answer"], agreed["votes"], agreed["total"]) == ("7 chairs", 3, 4)
    assert len(agreed["calls"]) > 4 and asked


def test_choices_reach_the_verifier_and_the_record():
    seen = []

    class Noting(LiteralVerifier):
        async def check(self, gold, answer, *, choices=None, judge=None):
            seen.append(choices)
            return await super().check(gold, answer)

    async def go() -> Record:
        async with Solver() as served, small_parts(served) as parts:
            return await solve(replace(some_problems(1)[0], choices=("1", "2")), replace(parts, verifier=Noting()))

    assert asyncio.run(go())["choices"] == ["1", "2"]
    assert set(seen) == {("1", "2")}


def test_seeds_differ_by_place_and_not_by_process():
    assert _seed(0, "p", 3, 1) == 27974509643980721
    assert len({_seed(0, "p", node, slot) for node in range(50) for slot in range(5)}) == 250
    assert _seed(0, "p1", 1, 0) != _seed(0, "p", 11, 0)


def test_the_root_is_all_that_has_no_text(records):
    for record in records:
        assert record["nodes"][0]["kind"] == Kind.ROOT and record["nodes"][0]["text"] == ""
        assert all(node["text"] for node in record["nodes"][1:])
