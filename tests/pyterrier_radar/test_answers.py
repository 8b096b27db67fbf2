"""AnswerQuestions: right and wrong by construction, alone and with documents; nothing paid twice."""

from dataclasses import dataclass

import pandas as pd
import pyterrier as pt
import pytest
from pandas.testing import assert_frame_equal

from pyterrier_radar import AnswerQuestions
from radar_llm import Sampling
from tests.pyterrier_radar.llm import candidates, topics
from tests.pyterrier_radar.test_reasoning import WordRetriever
from tests.synthesis import solver
from tests.synthesis.parts import served

BOOKISH = solver.Mind(right=0.0, right_with_theorem=1.0)
"""Right where it is shown all theorems that the problem needs, else wrong in every step."""


def golds(queries: int = 2) -> pd.DataFrame:
    rows = [(problem["id"], problem["answer"], "integer") for problem in solver.problems(queries)]
    return pd.DataFrame(rows, columns=["qid", "gold", "gold_type"])


@dataclass(frozen=True)
class Says(solver.Mind):
    """Answers with what the problem itself says behind a colon."""

    def _answer(self, asked):
        return asked.problem.partition(": ")[2]


def test_the_answer_is_that_of_the_last_box_and_is_judged():
    with served(solver.Mind(right=1.0)) as server:
        out = AnswerQuestions("solver", url=server.url, golds=golds(12))(topics(12))
    assert list(out["answer"]) == list(golds(12)["gold"])
    assert out["is_right"].all() and set(out["answer_status"]) == {"answered"}
    assert list(out["qid"]) == list(topics(12)["qid"])


def test_who_never_calculates_rightly_is_never_right():
    with served(solver.Mind(right=0.0, right_with_theorem=0.0)) as server:
        out = AnswerQuestions("solver", url=server.url, golds=golds(12))(candidates(12, 5))
    assert not out["is_right"].any() and set(out["answer_status"]) == {"answered"}


def ranked(queries: int = 10) -> pd.DataFrame:
    """For each problem the theorems that it needs, then four others."""
    theorems, rows = solver.theorems(), []
    for problem in solver.problems(queries):
        needed = sorted(solver.truth(problem["problem"]).theorems)
        others = [docno for docno in theorems if docno not in needed][:4]
        for rank, docno in enumerate([*needed, *others]):
            rows.append((problem["id"], problem["problem"], docno, theorems[docno], -float(rank), rank))
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def test_documents_change_the_answers_and_only_the_best_ones_are_read():
    frame = ranked()
    with served(BOOKISH) as server:
        options = {"url": server.url, "golds": golds(10)}
        alone = AnswerQuestions("solver", **options)(topics(10))
        informed = AnswerQuestions("solver", **options)(frame.sample(frac=1, random_state=0))
        upside_down = AnswerQuestions("solver", documents=4, **options)(frame.assign(score=-frame["score"]))
    assert not alone["is_right"].any()
    assert informed["is_right"].all() and len(informed) == 10
    assert not upside_down["is_right"].any(), "the needed ones come last now, behind four others"


def test_it_ends_a_pipeline_and_a_query_without_documents_has_no_row():
    with served(BOOKISH) as server:
        answering = AnswerQuestions("solver", url=server.url, golds=golds(6), documents=2)
        out = (WordRetriever() % 2 >> answering)(topics(6))
        reads = server.bodies[0]["messages"][-1]["content"]
        assert reads.startswith("Documents:\n[1] ") and "\n\n[2] " in reads and "[3] " not in reads
        assert answering(ranked(6)[lambda frame: frame["qid"] != "greetings-1"])["qid"].nunique() == 5
    assert list(out["qid"]) == list(topics(6)["qid"]) and "docno" not in out.columns


def test_every_kind_of_answer_is_judged_by_its_kind():
    rows = [
        ("a", "A: so it is \\boxed{1.03}", 1.0, "float", True),
        ("b", "B: so it is \\boxed{1.05}", 1.0, "float", False),
        ("c", "C: so it is \\boxed{[2, 1]}", "[1, 2]", "list of integer", True),
        ("d", "D: the answer is false.", True, "bool", False),
        ("e", "E: the answer is (b).", "(b)", "option", True),
        ("f", "F: who knows", 3, "integer", False),
        ("g", "G: \\boxed{1+x}", "x+1", "text", True),
    ]
    frame = pd.DataFrame(rows, columns=["qid", "query", "gold", "gold_type", "expected"])
    with served(Says()) as server:
        out = AnswerQuestions("solver", url=server.url, golds=frame)(frame[["qid", "query"]])
    assert list(out["is_right"]) == list(frame["expected"])
    assert list(out["answer"]) == ["1.03", "1.05", "[2, 1]", "false", "(b)", "", "1+x"]
    assert list(out["answer_status"]) == ["answered"] * 5 + ["unparsable", "answered"]


def test_what_has_no_answer_is_counted_named_and_wrong(caplog):
    frame = topics(4)
    frame.loc[0, "query"] = "word " * 900
    frame.loc[2, "query"] = "Say: nothing"
    with served(Says(), longest_prompt=4000) as server:
        answering = AnswerQuestions("solver", url=server.url, golds=golds(4))
        out = answering(frame.iloc[[0, 2]])
    assert list(out["answer_status"]) == ["missing", "unparsable"] and list(out["answer"]) == ["", ""]
    assert not out["is_right"].any() and answering.usage.failed == 1
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "solver answered 0 of 2 questions; unparsable: 1; missing: 1"
    assert said[1].startswith("qid 'seats-0' has no answer: ") and "maximum context length" in said[1]
    assert said[2].endswith("has no answer: it ends with 'nothing'")


def test_equal_questions_are_asked_once_and_a_second_run_asks_nothing(tmp_path):
    frame = pd.concat([topics(3), topics(3).assign(qid=["x", "y", "z"])], ignore_index=True)
    with served() as server:
        first = AnswerQuestions("solver", url=server.url, cache=tmp_path / "calls.sqlite")(frame)
        assert server.tally.calls["answer"] == 3
    again = AnswerQuestions("solver", url=server.url, cache=tmp_path / "calls.sqlite")
    assert_frame_equal(again(frame), first)
    assert again.usage.calls == 0 and "is_right" not in first.columns


def test_how_the_model_is_asked():
    with served() as server:
        AnswerQuestions("solver", url=server.url)(topics(1))
        AnswerQuestions("solver", url=server.url, sampling=Sampling(temperature=0.5, max_tokens=64), seed=3)(topics(1))
        AnswerQuestions("solver", url=server.url, max_document_chars=9, documents=1)(ranked(1))
        first, second, third = server.bodies
    assert (first["temperature"], first["max_tokens"]) == (0.0, 2048)
    assert (second["temperature"], second["max_tokens"]) == (0.5, 64) and first["seed"] != second["seed"]
    assert "document" not in first["messages"][0]["content"]
    text = ranked(1)["text"][0]
    assert f"[1] {text[:9]}\n\nProblem:" in third["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"query": ["?", " "]}, "qid 'greetings-1' has an empty query"),
        ({"qid": ["seats-0", "unknown"]}, "qid 'unknown' has no right answer in golds"),
    ],
)
def test_bad_questions_are_refused_before_anything_is_asked(change, problem):
    with served() as server:
        with pytest.raises(ValueError, match=problem):
            AnswerQuestions("solver", url=server.url, golds=golds())(topics().assign(**change))
        assert not server.bodies


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"golds": golds().assign(gold=["7", "many"])}, "qid 'greetings-1': 'many' is no number"),
        ({"golds": pd.concat([golds(), golds()])}, "qid 'seats-0' has two right answers"),
        ({"documents": 0}, "documents is 0"),
        ({"max_document_chars": 0}, "max_document_chars is 0"),
        ({"url": "nonsense"}, "nonsense"),
    ],
)
def test_bad_settings_are_refused_at_once(options, problem):
    with pytest.raises(ValueError, match=problem):
        AnswerQuestions("solver", **options)


def test_the_input_frame_is_not_changed():
    frame = ranked(2)
    before = frame.copy(deep=True)
    with served() as server:
        AnswerQuestions("solver", url=server.url)(frame)
    assert_frame_equal(frame, before)


@pytest.mark.parametrize("frame", [topics(), ranked(2)])
def test_zero_rows_give_the_right_columns_and_ask_nothing(frame):
    out = AnswerQuestions("solver", url="http://127.0.0.1:9/v1", golds=golds())(frame.iloc[:0])
    assert list(out.columns) == ["qid", "query", "answer", "answer_status", "solution", "is_right"] and len(out) == 0


def test_equality_covers_every_setting_that_changes_an_answer():
    one = AnswerQuestions("solver", golds=golds())
    same = AnswerQuestions("solver", golds=golds(), in_flight=1, api_key="sk-1", verbose=True)
    assert one == same and hash(one) == hash(same)
    changes = (
        {"url": "http://localhost:9000/v1"},
        {"seed": 1},
        {"sampling": Sampling()},
        {"documents": 3},
        {"max_document_chars": 100},
        {"text_field": "abstract"},
        {"golds": golds(3)},
        {"golds": None},
    )
    for change in changes:
        assert one != AnswerQuestions("solver", **{"golds": golds()} | change), change
    assert one != AnswerQuestions("other", golds=golds())


def test_the_key_is_shown_nowhere():
    answering = AnswerQuestions("solver", api_key="sk-secret")
    assert "sk-secret" not in repr(answering) + str(pt.schematic.draw(WordRetriever() >> answering))


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return AnswerQuestions("solver", golds=golds())
