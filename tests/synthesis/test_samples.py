"""Samples: what trajectories become, in the format that training reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radar_llm.cache import CallCache, call_key
from radar_llm.calls import Completion, GenerationError, Request, ServerError
from synthesis.decontaminate import EvaluationQueries
from synthesis.retriever import Hit, QueryError
from synthesis.retriever.corpus import theorem_texts
from synthesis.samples import SampleSettings, make_samples
from synthesis.samples.negatives import Rankings
from synthesis.samples.questions import theorem_names
from synthesis.similarity import words
from synthesis.solve import solve
from synthesis.store import Store
from synthesis.uses import judgements, uses
from tests.synthesis.parts import WordTheorems, small_parts, some_problems, with_tree
from tests.synthesis.records import RecordBuilder, records, solved
from tests.synthesis.solver import Solver, truth
from training.data import Example, read_examples

CORPUS = {
    f"t{number}": f"Statement number{number}: every widget{number} is a gadget{number}." for number in range(1, 81)
}
SMALL = SampleSettings(mined_ranks=(31, 50))


class WordCount:
    """A real, small ranker: by words in common, then in the order of the corpus."""

    def __init__(self, corpus: dict[str, str] = CORPUS, first: str = ""):
        self.corpus, self.first, self.asked = corpus, first, 0

    async def search(self, query: str, k: int) -> list[Hit]:
        self.asked += 1
        said = set(words(query))
        scores = {docno: len(said & set(words(text))) + (docno == self.first) for docno, text in self.corpus.items()}
        return [Hit(docno, scores[docno]) for docno in sorted(scores, key=lambda docno: -scores[docno])[:k]]

    def text(self, docno: str) -> str:
        return self.corpus[docno]


class Model:
    """Answers from a function of the prompt's last message and the sample's number, through a real call cache."""

    model = "scripted"

    def __init__(
        self, answer: Callable[[Request, str, int], str], cache: CallCache | None = None, finish_reason: str = "stop"
    ):
        self.answer, self.cache, self.calls = answer, cache or CallCache(":memory:"), 0
        self.finish_reason, self.seeds = finish_reason, set[int]()

    async def complete(self, request: Request, *, sample: int = 0, route: str = "") -> Completion:
        key = call_key(self.model, request, sample)
        known = self.cache.get(key)
        if known is not None:
            return known
        self.calls += 1
        self.seeds.add(request.seed)
        await asyncio.sleep(0.001 * (self.calls * 7 % 3))  # answers arrive in another order than asked
        text = self.answer(request, request.prompt.messages[-1]["content"], sample)
        completion = Completion(text, self.finish_reason, 10, 5, None, key, False)
        self.cache.put(key, self.model, request, sample, completion)
        return completion


def _writes_well(request: Request, message: str, sample: int) -> str:
    """A question in other words for llmq, in the theorem's words for lexical."""
    number = message.rpartition("Statement number")[2].partition(":")[0]
    if request.prompt.name == "lexical_question":
        return f"Question: For which widget{number} is it a gadget{number}, case {sample}?"
    return f"Query: Something about objects of sort {'i' * int(number)} is wanted here, in order to go on."


def _make(
    of: Iterable[dict[str, Any]], folder: Path, model: Any = None, config: SampleSettings = SMALL, **keywords: Any
) -> tuple[dict[str, Any], list[Example]]:
    keywords = {"bm25": WordCount(), "dense": WordCount(first="t60")} | keywords
    with Store(folder / "problems.sqlite") as store:
        for record in of:
            store.add(record)
        report = asyncio.run(
            make_samples(store, model or Model(_writes_well), folder=folder, settings=config, **keywords)
        )
    return report, list(read_examples(folder / "train.jsonl", cache=folder / "cache"))


def _of_type(examples: list[Example], kind: str) -> dict[str, Example]:
    return {f"{one.positive}@{one.provenance['node']}": one for one in examples if one.query_type == kind}


def test_a_use_is_a_theorem_node_on_a_rewarded_path_once_however_many_rollouts_reward_it() -> None:
    found = {use.node: use for use in uses(solved())}
    assert [(use.node, use.docno) for use in found.values()] == [(3, "t1"), (5, "t2"), (8, "t3"), (15, "t1")]
    assert [step.text for step in found[3].steps] == ["Step 1: count on your fingers."]
    assert [step.text for step in found[8].steps] == [
        "Step 1: count on your fingers.",
        "Addition associates.",
        "Step 2: regroup.",
    ]
    assert found[15].steps == ()


def test_negatives_are_what_the_same_query_node_rejected() -> None:
    found = {use.node: use for use in uses(solved())}
    assert found[3].rejected == ("t10", "t4") and found[8].rejected == ("t12",) and found[15].rejected == ("t13",)


def test_what_was_accepted_anywhere_counts_for_the_problem() -> None:
    judged = judgements(solved())
    assert judged.accepted == {"t1", "t2", "t3", "t4"} and judged.unclear == {"t11"}


def test_the_four_types_are_made_of_every_use(tmp_path: Path) -> None:
    report, examples = _make([solved()], tmp_path)
    problem = solved()["problem"]
    questions, cots = _of_type(examples, "question"), _of_type(examples, "cot")
    assert set(questions) == {"t1@3", "t2@5", "t3@8"}  # t1@15 asks the same of the same theorem
    assert {one.query for one in questions.values()} == {problem}
    assert set(cots) == {"t1@3", "t2@5", "t3@8"}  # there is no step before node 14
    assert cots["t1@3"].query == f"{problem}\n\nStep 1: Step 1: count on your fingers."
    assert "Addition associates." in cots["t3@8"].query
    assert set(_of_type(examples, "llmq")) == {"t1@3", "t2@5", "t3@8"}  # at 15 the model wrote the same again
    assert set(_of_type(examples, "lexical")) == {"t1@3", "t2@5", "t3@8"}
    assert {kind: figures["samples"] for kind, figures in report["types"].items()} == dict.fromkeys(SMALL.types, 3)
    assert report["types"]["cot"]["dropped"] == {"no_steps": 1}
    assert report["types"]["question"]["dropped"] == report["types"]["llmq"]["dropped"] == {"duplicate": 1}
    assert report["samples"] == len(examples) == 12 and report["theorems"] == 3


def test_no_training_query_holds_a_retrieval_query_of_the_tree(tmp_path: Path) -> None:
    record = solved()
    _, examples = _make([record], tmp_path)
    retrieval = [node["text"] for node in record["nodes"] if node["kind"] == "query"]
    assert not [one for one in examples for text in retrieval if text in one.query]


def test_rejected_negatives_come_first_and_mined_ones_fill_up_with_their_rank(tmp_path: Path) -> None:
    report, examples = _make([solved()], tmp_path)
    negatives = _of_type(examples, "question")["t1@3"].negatives
    # t4 was rejected here and accepted at another node: it is also relevant, and no negative
    assert [(one.docno, one.origin) for one in negatives if one.origin == "rejected"] == [("t10", "rejected")]
    assert len(negatives) == 11 and len({one.docno for one in negatives}) == 11
    assert {one.origin.partition("-")[0] for one in negatives[1:]} == {"bm25", "dense"}
    ranks = [int(one.origin.partition("-")[2]) for one in negatives[1:]]
    assert all(31 <= rank <= 50 for rank in ranks)
    assert report["types"]["question"]["negatives"]["rejected"] == 3
    assert report["refused_as_negatives"]["relevant"] > 0


def test_nothing_accepted_or_unclear_for_the_problem_is_ever_a_negative(tmp_path: Path) -> None:
    config = SampleSettings(mined_ranks=(1, 50), dense_top=50)
    _, examples = _make([solved()], tmp_path, config=config)
    assert examples
    for one in examples:
        assert not {"t1", "t2", "t3", "t4", "t11"} & {negative.docno for negative in one.negatives}
        if one.query_type != "lexical":
            assert set(one.also_relevant) == {"t1", "t2", "t3", "t4"} - {one.positive}


def test_one_problem_under_two_ids_is_one_problem_to_the_guard(tmp_path: Path) -> None:
    twin = RecordBuilder("twin", solved()["problem"].upper())
    query = twin.query(0, "Other", "thing", {"t40": "relevant"})
    twin.rollout(twin.completion(twin.theorem(query, "t40", "It is."), "\\boxed{5}", "5", 0.0))
    _, examples = _make([solved(), twin.record()], tmp_path, config=SampleSettings(mined_ranks=(1, 80)))
    assert not [one for one in examples for negative in one.negatives if negative.docno == "t40"]
    assert "t40" in _of_type(examples, "question")["t1@3"].also_relevant


def test_a_negative_with_the_text_of_the_positive_is_left_out(tmp_path: Path) -> None:
    corpus = CORPUS | {"t10": CORPUS["t1"].replace(" ", "  "), "t35": CORPUS["t1"]}
    rankers = {"bm25": WordCount(corpus), "dense": WordCount(corpus)}
    _, examples = _make([solved()], tmp_path, config=SampleSettings(mined_ranks=(1, 80)), **rankers)
    assert not {"t10", "t35"} & {negative.docno for negative in _of_type(examples, "question")["t1@3"].negatives}


def test_lexical_queries_are_kept_if_bm25_finds_the_theorem_among_its_first_20(tmp_path: Path) -> None:
    def vague(request: Request, message: str, sample: int) -> str:
        good = _writes_well(request, message, sample)
        return "Question: What is so?" if request.prompt.name == "lexical_question" and "widget3" in good else good

    corpus = dict(reversed(CORPUS.items()))  # t3 is among the last
    report, examples = _make([solved()], tmp_path, Model(vague), bm25=WordCount(corpus), dense=WordCount(first="t60"))
    lexical = _of_type(examples, "lexical")
    assert set(lexical) == {"t1@3", "t2@5"} and report["types"]["lexical"]["dropped"] == {"round_trip": 1}
    assert lexical["t1@3"].provenance["bm25_rank"] == 1
    for one in lexical.values():
        origins = [negative.origin.split("-") for negative in one.negatives]
        assert one.also_relevant == ()
        assert all(31 <= int(rank) <= 50 for ranker, rank in origins if ranker == "bm25")
        assert all(1 <= int(rank) <= 10 for ranker, rank in origins if ranker == "dense")
        assert {ranker for ranker, _ in origins} == {"bm25", "dense"}


def test_a_theorem_gets_a_lexical_query_for_each_problem_up_to_a_bound(tmp_path: Path) -> None:
    problems = [solved(f"p{n}", f"What is {'number ' * n} two plus two?") for n in range(1, 5)]
    config = SampleSettings(types=("lexical",), lexical_queries=2, near_duplicate=1.0)
    _, examples = _make(problems, tmp_path, config=config)
    made = sorted((one.positive, one.provenance["problem"]) for one in examples)
    assert made == [(docno, problem) for docno in ("t1", "t2", "t3") for problem in ("p1", "p2")]
    assert len({one.query for one in examples}) == 6


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "unparsable"),
        ("Query: Can the Addition Lemma help us out with fingers and such?", "names_theorem"),
        ("Query: Is every widget1 a gadget1, in this statement?", "overlap"),
    ],
)
def test_an_llmq_query_that_does_not_pass_is_asked_for_again_a_bounded_number_of_times(
    tmp_path: Path, bad: str, reason: str
) -> None:
    tree = RecordBuilder("p", "Add two and two!")
    query = tree.query(0, "Addition lemma", "Sums commute", {"t1": "relevant"})
    tree.rollout(tree.completion(tree.theorem(query, "t1", "It commutes."), "\\boxed{4}", "4", 1.0))

    def until(samples: int) -> Model:
        return Model(
            lambda request, message, sample: bad if sample < samples else _writes_well(request, message, sample)
        )

    config = SampleSettings(types=("question", "llmq"), attempts=3)
    _, examples = _make([tree.record()], tmp_path / "good", until(2), config)
    assert [one.provenance.get("attempt") for one in examples] == [None, 2]
    never = until(10**6)
    report, _ = _make([tree.record()], tmp_path / "bad", never, config)
    assert report["types"]["llmq"]["dropped"] == {reason: 1} and never.calls == 3


def test_a_query_that_was_cut_off_is_unparsable(tmp_path: Path) -> None:
    report, _ = _make([solved()], tmp_path, Model(_writes_well, finish_reason="length"))
    dropped = {kind: figures["dropped"].get("unparsable") for kind, figures in report["types"].items()}
    assert dropped == {"question": None, "cot": None, "llmq": 4, "lexical": 3}


def test_every_call_is_made_with_the_seed_of_the_run(tmp_path: Path) -> None:
    model = Model(_writes_well)
    _make([solved()], tmp_path, model, seed=7)
    assert model.seeds == {7}


def test_calls_and_tokens_are_counted_whether_or_not_they_were_paid_for_just_now(tmp_path: Path) -> None:
    model = Model(_writes_well)
    report, _ = _make([solved()], tmp_path, model)
    asked = model.calls
    assert report["calls"] == {"total": asked, "prompt_tokens": 10 * asked, "generated_tokens": 5 * asked}
    before = (tmp_path / "samples.json").read_bytes()
    _make([solved()], tmp_path, model)
    assert model.calls == asked and (tmp_path / "samples.json").read_bytes() == before


def test_samples_say_whether_their_reward_is_of_a_gold_answer_or_of_agreement(tmp_path: Path) -> None:
    agreed = solved("p2", "How many fingers are there on two hands?") | {"answer": None}
    report, examples = _make([solved(), agreed], tmp_path)
    rewards = {(one.provenance["problem"], one.provenance["reward"]) for one in examples}
    assert rewards == {("p1", "gold"), ("p2", "consensus")}
    of_agreement = sum(one.provenance["reward"] == "consensus" for one in examples)
    assert 0 < report["consensus_samples"] == of_agreement < report["samples"]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"{of_agreement} of them come of problems without a gold answer" in card


def test_the_llmq_prompt_shows_the_retrieved_theorem_and_the_steps_not_the_candidate(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(request: Request, message: str, sample: int) -> str:
        if request.prompt.name == "theorem_question":
            seen.append(message)
        return _writes_well(request, message, sample)

    _make([solved()], tmp_path, Model(look))
    assert any(CORPUS["t3"] in message and "Step 2: regroup." in message for message in seen)
    assert not [message for message in seen if "Zero is neutral" in message or "Sums commute" in message]


def test_half_a_surrogate_pair_in_an_answer_does_not_break_the_file(tmp_path: Path) -> None:
    broken = Model(lambda request, message, sample: f"{_writes_well(request, message, sample)} \ud83d")
    _, examples = _make([solved()], tmp_path, broken)
    assert _of_type(examples, "llmq")["t1@3"].query.endswith("?")


def test_overlap_is_measured_and_kept_with_the_sample(tmp_path: Path) -> None:
    report, examples = _make([solved()], tmp_path)
    assert all(one.provenance["overlap"] == 0 for one in _of_type(examples, "llmq").values())
    assert all(one.provenance["overlap"] > 0.5 for one in _of_type(examples, "lexical").values())
    assert report["types"]["llmq"]["mean_overlap"] == 0 and report["types"]["question"]["mean_overlap"] is None


def test_every_sample_is_traceable_to_nodes_and_calls(tmp_path: Path) -> None:
    record, model = solved(), Model(_writes_well)
    _, examples = _make([record], tmp_path, model)
    for one in examples:
        origin = one.provenance
        assert (origin["problem"], origin["configuration"]) == ("p1", "c0ffee")
        node, query = record["nodes"][origin["node"]], record["nodes"][origin["query_node"]]
        assert node["docno"] == one.positive and node["parent"] == origin["query_node"]
        assert origin["node"] in record["rollouts"][origin["rollout"]]
        assert set(query["calls"] + node["calls"]) <= set(origin["calls"]["label"])
        assert {call for hit in query["retrieved"] for call in hit["calls"]} <= set(origin["calls"]["label"])
        if one.query_type in ("llmq", "lexical"):
            (call,) = origin["calls"]["query"]
            assert one.query in model.cache.read(call)["completion"]["text"]  # type: ignore[index]


def test_near_duplicate_queries_for_one_theorem_are_dropped_and_others_kept(tmp_path: Path) -> None:
    long = "In how many ways can a school team of five be chosen from ten students of whom four are in their last year"
    of = [solved("p1", f"{long}?"), solved("p2", f"{long} now?"), solved("p3", "Quite another question, it is.")]
    report, examples = _make(of, tmp_path, config=SampleSettings(types=("question",)))
    assert {(one.provenance["problem"], one.positive) for one in examples} == {
        (problem, docno) for problem in ("p1", "p3") for docno in ("t1", "t2", "t3")
    }
    assert report["types"]["question"]["dropped"] == {"duplicate": 2, "near_duplicate": 4}


def test_contaminated_problems_and_queries_are_left_out_and_reported(tmp_path: Path) -> None:
    of = [solved("clean", "What is one plus three, and how can you tell?"), solved("leaked")]
    written = "Something about objects of sort ii is wanted here, in order to go on."
    against = EvaluationQueries([("aops", "e1", solved()["problem"]), ("aops", "e2", written)])
    model = Model(_writes_well)
    report, examples = _make(of, tmp_path, model, against=against)
    assert {one.provenance["problem"] for one in examples} == {"clean"}
    found = report["decontamination"]["removed"]
    assert {(one["id"], one["query_id"]) for one in found} >= {("leaked", "e1"), ("clean/llmq/5", "e2")}
    assert report["problems"]["contaminated"] == 1
    assert not [one for one in examples if one.query == written]
    assert model.calls == 4 + 3  # nothing was asked for the leaked problem


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(tmp_path: Path) -> None:
    of = [solved(f"p{n}", f"Question {'x' * n}: what is two plus two?") for n in range(12)]
    first = Model(_writes_well)
    _make(of, tmp_path / "a", first, SampleSettings(concurrency=5))
    again = Model(_writes_well, first.cache)
    _make(reversed(of), tmp_path / "b", again, SampleSettings(concurrency=1))  # finished in another order
    assert first.calls > 0 and again.calls == 0
    assert (tmp_path / "a/train.jsonl").read_bytes() == (tmp_path / "b/train.jsonl").read_bytes()


def test_a_call_that_fails_costs_its_query_and_a_dead_server_stops_all_and_leaves_the_old_dataset(
    tmp_path: Path,
) -> None:
    def fails(request: Request, message: str, sample: int) -> str:
        raise GenerationError("the prompt is too long")

    report, examples = _make([solved()], tmp_path, Model(fails))
    assert report["types"]["llmq"]["dropped"] == {"failed": 4} and len(examples) == 6
    before = (tmp_path / "train.jsonl").read_bytes()

    def dead(request: Request, message: str, sample: int) -> str:
        raise ServerError("no such model")

    with pytest.raises(ServerError):
        _make([solved(), solved("p2", "another problem")], tmp_path, Model(dead))
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    without = {docno: text for docno, text in CORPUS.items() if docno != "t2"}
    with pytest.raises(ValueError, match="lacks theorem 't2'.*corpus of the run"):
        _make([solved()], tmp_path, bm25=WordCount(without), dense=WordCount())
    unsolved = RecordBuilder("p", "Q?")
    with pytest.raises(ValueError, match="no sample came of 1 problems"):
        _make([unsolved.rollout(unsolved.thought(0, "Hm.")).record()], tmp_path / "unsolved")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/README.md").write_text("mine")
    with pytest.raises(ValueError, match="folder of its own"):
        _make([solved()], tmp_path / "own")


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": ()},
        {"types": ("qcot",)},
        {"mined_ranks": (50, 31)},
        {"attempts": 0},
        {"negatives": -1},
        {"max_overlap": 0},
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SampleSettings(**wrong)


def test_a_theorem_is_called_by_its_heading_title_and_candidate_and_one_word_is_no_name() -> None:
    assert theorem_names("17", "\\section{Axiom of Choice}\nTags: x\n\\begin{theorem}…", "Zorn's Lemma") == (
        "Axiom of Choice",
        "Zorn's Lemma",
    )
    assert theorem_names("t1", "Mean value theorem\nLet $f$ be …") == ("Mean value theorem",)
    assert theorem_names("Limit", "Limit\nLet $f$ …", "limit") == ()
    titled = theorem_texts([{"docno": "17", "title": "Lemma of\nZorn ", "text": "Every chain has a bound."}])["17"]
    assert theorem_names("17", titled) == ("Lemma of Zorn",)
    assert theorem_names("BinomialTheorem", "Every even number is twice another.") == ("Binomial Theorem",)


def test_samples_of_a_whole_run_agree_with_the_truth_and_a_second_making_asks_nothing(tmp_path: Path) -> None:
    """Problems, solver, tree, store, samples: all real, and the truth of the solver's world is known."""
    problems = {problem.id: problem for problem in some_problems(10)}

    async def go() -> tuple[dict[str, Any], list[int]]:
        async with Solver() as served, small_parts(served, settings=with_tree(rollouts=4, max_depth=6)) as parts:
            with Store(tmp_path / "problems.sqlite") as store:
                for problem in problems.values():
                    store.add(await solve(problem, parts))
                asked = []
                for folder in ("a", "b"):
                    before = parts.generator.usage.calls
                    report = await make_samples(
                        store, parts.generator, WordTheorems(), WordTheorems(), tmp_path / folder
                    )
                    asked.append(parts.generator.usage.calls - before)
                return report, asked

    report, asked = asyncio.run(go())
    assert asked[0] > 0 and asked[1] == 0
    assert (tmp_path / "a/train.jsonl").read_bytes() == (tmp_path / "b/train.jsonl").read_bytes()
    examples = list(read_examples(tmp_path / "a/train.jsonl", cache=tmp_path / "cache"))
    assert all(figures["samples"] > 0 for figures in report["types"].values())
    rejected = 0
    for one in examples:
        known = truth(problems[one.provenance["problem"]].text)
        assert known is not None and one.positive in known.theorems
        assert set(one.also_relevant) <= known.theorems
        rejections = {negative.docno for negative in one.negatives if negative.origin == "rejected"}
        assert not rejections & known.theorems
        rejected += len(rejections)
    assert rejected > 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(records(), min_size=1, max_size=3))
def test_whatever_is_made_of_any_records_is_read_by_training(tmp_path: Path, of: list[dict[str, Any]]) -> None:
    try:
        _, examples = _make(of, tmp_path / str(len(list(tmp_path.iterdir()))))
    except ValueError as error:
        assert "no sample came" in str(error)
        return
    told = {(use.problem_id, use.node): use for record in of for use in uses(record)}
    for one in examples:
        assert one.positive not in {negative.docno for negative in one.negatives}
        assert any(use.docno == one.positive for use in told.values())


def test_samples_of_the_file_are_plain_json_lines_with_inline_texts(tmp_path: Path) -> None:
    _make([solved()], tmp_path)
    for line in (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        assert sample["positive"]["text"] == CORPUS[sample["positive"]["docno"]]
        assert all(negative["text"] == CORPUS[negative["docno"]] for negative in sample["negatives"])


def test_a_query_that_cannot_be_ranked_has_no_mined_negatives() -> None:
    class Unranked:
        async def search(self, query: str, k: int) -> list[Hit]:
            raise QueryError(query, "400: longer than 512 tokens")

    assert asyncio.run(Rankings({"dense": Unranked()}).docnos("dense", "long " * 600, 10)) == []  # type: ignore[dict-item]
