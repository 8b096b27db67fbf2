import logging
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import nDCG
from pandas.testing import assert_frame_equal

from pyterrier_radar import RATING_FAMILIES, Interpolate, MaxPassage, RatingReranker, SlidingWindows
from pyterrier_radar._llm import prompt
from pyterrier_radar._rating import parse_rating
from radar_llm import Sampling, ServerError, Template
from tests.pyterrier_radar.llm import candidates, is_needed, short_delays  # noqa: F401
from tests.synthesis import solver
from tests.synthesis.parts import served
from torch_radar.instructions import BRIGHT_SPLITS


@dataclass(frozen=True)
class Table(solver.Mind):
    """Answers what a table says for the text of a document."""

    answers: dict[str, str] = field(default_factory=dict)

    def _rating(self, asked):
        return self.answers[asked.theorem]


def ranking(*rows, query="why does ice float?"):
    """Rows of docno, text and score."""
    frame = pd.DataFrame(rows, columns=["docno", "text", "score"])
    return pt.model.add_ranks(frame.assign(qid="q1", query=query))


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Relevance score: 4", 4),
        ("relevance score:0", 0),
        ("Relevance score: 5.", 5),
        ("**Relevance score:** 3", 3),
        ("**Relevance score**: **2**", 2),
        ("The document helps.\n\nRelevance score: 1/5", 1),
        ("Relevance score: 4 – it names the cause", 4),
        ("Relevance score:\n3.5", 3.5),
        ("Relevance score: 4\nQuery: another\nRelevance score: 1", 4),
        ("3", 3),
        (" 4/5.\n", 4),
        ("", None),
        ("Relevance score: X", None),
        ("Relevance score: 6", None),
        ("Relevance score: 10", None),
        ("Relevance score: 5.5", None),
        ("Relevance score: -1", None),
        ("Relevance score: –1", None),
        ("Relevance score: 0 to 5", None),
        ("Relevance score: 0-5", None),
        ("Relevance", None),
        ("-1", None),
        ("4 of 5 things are right", None),
        ("I'd give it 4", None),
    ],
)
def test_what_an_answer_is_read_as(text, rating):
    assert parse_rating(text) == rating


@given(st.text())
def test_no_answer_breaks_the_parser(text):
    for answer in (text, f"Relevance score: {text}"):
        rating = parse_rating(answer)
        assert rating is None or 0 <= rating <= 5


def test_ratings_become_scores_and_equal_ones_keep_the_retrievers_order():
    frame = candidates()
    with served() as server:
        out = RatingReranker("solver", url=server.url)(frame)
    assert list(out["rating"] == 5) == is_needed(out)
    np.testing.assert_array_equal(out["score"], out["rating"] / 5)
    assert set(out["rating_status"]) == {"rated"}
    assert len(out) == len(frame) and set(out["rating"]) > {5, 0}
    assert dict(zip(zip(out["qid"], out["docno"], strict=True), out["retrieval_score"], strict=True)) == dict(
        zip(zip(frame["qid"], frame["docno"], strict=True), frame["score"], strict=True)
    )
    for _, part in out.groupby("qid"):
        assert list(part["rank"]) == list(range(len(part)))
        assert list(part["score"]) == sorted(part["score"], reverse=True)
        for _, equal in part.groupby("rating"):
            assert list(equal["retrieval_score"]) == sorted(equal["retrieval_score"], reverse=True)


def test_the_order_of_equal_ratings_is_that_of_scores_then_ranks_then_rows():
    answers = {"a": "Relevance score: 2", "b": "Relevance score: 2", "c": "Relevance score: 4"}
    frame = ranking(("d1", "a", 1.0), ("d2", "b", 3.0), ("d3", "c", 0.5))
    with served(Table(answers=answers)) as server:
        rating = RatingReranker("solver", url=server.url)
        assert list(rating(frame)["docno"]) == ["d3", "d2", "d1"]
        assert list(rating(frame.drop(columns="score"))["docno"]) == ["d3", "d2", "d1"]
        bare = rating(frame.drop(columns=["score", "rank"]))
    assert list(bare["docno"]) == ["d3", "d1", "d2"] and "retrieval_score" not in bare.columns


def test_unparsable_counts_minus_one_and_missing_zero_and_both_are_counted_and_named(caplog):
    answers = {"good": "Relevance score: 3", "bad": "I cannot say.", "zero": "Relevance score: 0"}
    frame = ranking(("d1", "good", 4.0), ("d2", "bad", 3.0), ("d3", "word " * 900, 2.0), ("d4", "zero", 1.0))
    with served(Table(answers=answers), longest_prompt=4000) as server:
        rating = RatingReranker("solver", url=server.url)
        out = rating(frame).set_index("docno")
        assert server.tally.statuses[400] == 1
    assert dict(out["score"]) == {"d1": 0.6, "d3": 0.0, "d4": 0.0, "d2": -1.0}
    assert list(out.index) == ["d1", "d3", "d4", "d2"]
    assert dict(out["rating_status"]) == {"d1": "rated", "d3": "missing", "d4": "rated", "d2": "unparsable"}
    assert out["rating"].isna().tolist() == [False, True, False, True]
    assert rating.usage.failed == 1
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "solver rated 2 of 4 pairs; unparsable: 1, counted as -1; missing: 1, counted as 0"
    assert any("qid 'q1' with docno 'd2' has no rating: it answered 'I cannot say.'" in line for line in said)
    assert any("docno 'd3' has no rating" in line and "maximum context length" in line for line in said)


def test_many_pairs_without_a_rating_are_not_all_named(caplog):
    with served(solver.Mind(broken=1.0)) as server:
        out = RatingReranker("solver", url=server.url)(candidates())
    failed = int((out["rating_status"] == "unparsable").sum())
    assert failed > 20
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 7 and said[-1] == f"… and {failed - 5} more: see the column rating_status"


def test_where_all_are_rated_nothing_is_warned_of(caplog):
    with served() as server, caplog.at_level(logging.INFO, "pyterrier_radar"):
        RatingReranker("solver", url=server.url)(candidates())
    assert [(record.levelname, record.getMessage()[:25]) for record in caplog.records] == [
        ("INFO", "solver rated 40 of 40 pai")
    ]


@pytest.mark.parametrize(
    "faults",
    [
        solver.Faults(refused=0.3),
        solver.Faults(errors=0.3),
        solver.Faults(disconnects=0.3),
        solver.Faults(truncated=0.3),
        solver.Faults(hangs=0.1, hang_seconds=30),
    ],
    ids=["429", "500", "disconnect", "garbage", "hang"],
)
def test_a_server_with_faults_gives_the_ratings_of_a_sound_one(faults, short_delays):  # noqa: F811
    with served() as sound, served(faults=faults) as faulty:
        expected = RatingReranker("solver", url=sound.url)(candidates())
        rating = RatingReranker("solver", url=faulty.url, timeout=1.0 if faults.hangs else 60.0)
        assert_frame_equal(rating(candidates()), expected)
        assert rating.usage.retried > 0


@pytest.mark.parametrize("faults", [solver.Faults(errors=1.0), solver.Faults(hangs=1.0, hang_seconds=30)])
def test_a_server_that_answers_nothing_is_an_error_and_no_ranking(faults, short_delays):  # noqa: F811
    with served(faults=faults) as server, pytest.raises(ServerError, match="no call is answered"):
        RatingReranker("solver", url=server.url, retries=1, timeout=0.3)(candidates())


def test_equal_pairs_are_rated_once():
    texts = [("d1", "a"), ("d2", "b"), ("d3", "a")]
    frame = pd.DataFrame(
        [(qid, query, *text) for qid, query in (("q1", "x"), ("q2", "x"), ("q3", "y")) for text in texts],
        columns=["qid", "query", "docno", "text"],
    )
    with served(Table(answers={"a": "Relevance score: 1", "b": "Relevance score: 2"})) as server:
        out = RatingReranker("solver", url=server.url)(frame)
        assert server.tally.calls.total() == 4
    assert list(out["docno"]) == ["d2", "d1", "d3"] * 3


def test_the_paper_is_followed_in_how_the_model_is_asked():
    with served() as server:
        RatingReranker("solver", url=server.url)(candidates(1, 1))
        body = server.bodies[0]
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.6, 0.9, 32)
        assert "top_k" not in body and "structured_outputs" not in body
        assert "Relevance score: X" in body["messages"][-1]["content"]
        RatingReranker("solver", url=server.url, sampling=Sampling(temperature=0.0, max_tokens=9), seed=1)(
            candidates(1, 1)
        )
        assert (server.bodies[1]["temperature"], server.bodies[1]["max_tokens"]) == (0.0, 9)
        assert server.bodies[1]["seed"] != body["seed"]


def test_expected_ratings_are_the_mean_of_the_digits_probabilities():
    with served() as server:
        plain = RatingReranker("solver", url=server.url)(candidates()).set_index(["qid", "docno"])
        out = RatingReranker("solver", url=server.url, expected=True)(candidates())
        asked, body = solver.mind.read(server.bodies[-1]["messages"], server.bodies[-1]["seed"]), server.bodies[-1]
    assert body["structured_outputs"] == {"choice": list("012345")} and body["top_logprobs"] == 20
    assert (body["temperature"], body["top_p"]) == (1.0, 1.0)
    assert "one digit" in body["messages"][-1]["content"]
    mean = sum(int(digit) * share for digit, share in solver.Mind().probabilities(asked).items())
    (found,) = out[(out["query"] == asked.problem) & (out["text"] == asked.theorem)]["rating"]
    assert found == pytest.approx(mean)
    both = out.set_index(["qid", "docno"]).assign(plain=plain["rating"])
    assert (both["rating"] % 1 != 0).all() and both["rating"].between(0, 5).all()
    assert both[["rating", "plain"]].corr().iloc[0, 1] > 0.8


@pytest.mark.parametrize("refuses", [True, False])
def test_without_probabilities_the_digit_itself_is_the_expected_rating_and_that_is_said(refuses, caplog):
    lacks = frozenset({"logprobs"})
    with served(lacks=lacks, refuses=refuses) as server:
        out = RatingReranker("solver", url=server.url, expected=True)(candidates())
    assert list(out["rating"] == 5) == is_needed(out) and set(out["rating_status"]) == {"rated"}
    assert sum("log" in record.getMessage() for record in caplog.records) == 1


def test_each_family_has_its_own_prompt_with_the_same_question():
    assert set(RATING_FAMILIES) == set(BRIGHT_SPLITS)
    families = sorted(set(RATING_FAMILIES.values()))
    assert len(families) == 6
    files = {path.name for path in (resources.files("pyterrier_radar") / "prompts").iterdir()}
    assert {name for name in files if "rating" in name} == {f"rating_{family}.txt" for family in families}
    prompts = [prompt(f"rating_{family}") for family in families]
    assert len({template.fixed[0]["content"] for template in prompts}) == 6
    assert {template.last for template in prompts} == {
        "Query:\n{{query}}\n\nDocument:\n{{document}}\n\n{{answer_form}}"
    }
    with served() as server:
        for family, template in zip(families, prompts, strict=True):
            RatingReranker("solver", url=server.url, family=family)(candidates(1, 1))
            assert server.bodies[-1]["messages"][0] == template.fixed[0]
        assert server.tally.calls["rating"] == 6


def test_texts_are_put_into_the_prompt_as_they_are():
    document = "{{query}} $\\frac{1}{2}$ \\1 Relevance score: 5"
    with served(Table(answers={document: "Relevance score: 1"})) as server:
        out = RatingReranker("solver", url=server.url)(ranking(("d1", document, 1.0)))
    assert out["rating"].tolist() == [1.0]


def test_a_template_of_ones_own_is_used_and_one_without_a_document_refused():
    own = Template.of("own", "[user]\nIs this good? {{document}}\nFor: {{query}}")
    assert RatingReranker("solver", family=own) != RatingReranker("solver")
    with pytest.raises(ValueError, match="prompt own has no {{document}}"):
        RatingReranker("solver", family=Template.of("own", "[user]\n{{query}}"))
    with pytest.raises(ValueError, match="no prompt family 'biology': name one of aops, general"):
        RatingReranker("solver", family="biology")


def test_documents_are_cut_where_it_is_asked_for():
    with served(Table(answers={"long": "Relevance score: 2"})) as server:
        out = RatingReranker("solver", url=server.url, max_document_chars=4)(ranking(("d1", "long document", 1.0)))
    assert out["rating"].tolist() == [2.0] and out["text"].tolist() == ["long document"]
    with pytest.raises(ValueError, match="max_document_chars is 0"):
        RatingReranker("solver", max_document_chars=0)


def test_a_long_document_has_the_best_rating_of_its_windows(tiny_qwen2):
    filler = " ".join(f"A remark about the weather of day {day}." for day in range(40))
    frame = candidates(1, 3)
    frame.loc[0, "text"] = f"{filler} {frame['query'][0]} {filler}"
    with served() as server:
        rating = RatingReranker("solver", url=server.url)
        out = (SlidingWindows(tiny_qwen2, 256, 64) >> rating >> MaxPassage())(frame).set_index("docno")
        assert server.tally.calls.total() > 10
    best = out.loc[frame["docno"][0]]
    start, end = map(int, best["passage"].rpartition("%p")[2].split("-"))
    assert best["text"] == frame["text"][0][start:end] and "chairs" in best["text"]
    assert best["rating"] >= 3


def test_the_text_field_is_honoured():
    frame = candidates()
    with served() as server:
        renamed = frame.rename(columns={"text": "body"}).assign(text="wrong column")
        out = RatingReranker("solver", url=server.url, text_field="body")(renamed)
    assert list(out["rating"] == 5) == is_needed(out)


def test_the_input_frame_is_not_changed():
    frame = candidates()
    before = frame.copy(deep=True)
    with served() as server:
        RatingReranker("solver", url=server.url)(frame)
    assert_frame_equal(frame, before)


def test_zero_rows_give_the_right_columns_and_ask_nothing():
    rating = RatingReranker("solver", url="http://127.0.0.1:9/v1")
    out = rating(candidates().iloc[:0])
    expected = ["qid", "query", "docno", "text", "score", "rating", "rating_status", "retrieval_score", "rank"]
    assert list(out.columns) == expected and len(out) == 0
    with served() as server:
        assert list(RatingReranker("solver", url=server.url)(candidates()).dtypes) == list(out.dtypes)
    bare = rating(pd.DataFrame(columns=["qid", "query", "docno", "text"]))
    assert "retrieval_score" not in bare.columns and rating.usage.calls == 0


@pytest.mark.parametrize("value", [None, float("nan"), 7])
@pytest.mark.parametrize(("column", "name"), [("text", "docno 'sum-of-integers'"), ("query", "qid 'seats-0'")])
def test_a_missing_text_or_query_is_refused_with_its_name_before_anything_is_asked(value, column, name):
    frame = candidates().astype({"text": object, "query": object})
    frame.loc[(frame["docno"] == "sum-of-integers") & (frame["qid"] == "seats-0"), column] = value
    with served() as server:
        with pytest.raises(ValueError, match=f"{name} has {value!r} .* fill it in or drop the row"):
            RatingReranker("solver", url=server.url)(frame)
        assert not server.bodies


def test_a_document_listed_twice_a_blank_query_and_a_missing_column_are_refused_before_anything_is_asked():
    frame = candidates()
    with served() as server:
        rating = RatingReranker("solver", url=server.url)
        with pytest.raises(ValueError, match="docno 'sum-of-integers' of qid 'seats-0' is listed twice"):
            rating(pd.concat([frame, frame.iloc[:1]]))
        with pytest.raises(ValueError, match="qid 'seats-0' has an empty query"):
            rating(frame.assign(query=" "))
        with pytest.raises(pt.validate.InputValidationError, match="text"):
            rating(frame.drop(columns="text"))
        assert not server.bodies


def test_equality_covers_every_setting_that_changes_a_rating():
    one = RatingReranker("solver")
    same = RatingReranker("solver", cache=None, in_flight=1, api_key="sk-1", timeout=1, retries=0, verbose=True)
    assert one == same and hash(one) == hash(same)
    for change in (
        {"url": "http://localhost:9000/v1"},
        {"family": "pony"},
        {"expected": True},
        {"seed": 1},
        {"sampling": Sampling()},
        {"max_document_chars": 99},
        {"text_field": "body"},
    ):
        assert one != RatingReranker("solver", **change), change
    assert one != RatingReranker("other")


def test_the_key_is_shown_nowhere():
    rating = RatingReranker("solver", api_key="sk-secret")
    assert "sk-secret" not in repr(rating) + str(pt.schematic.draw(rating)) + str(pt.schematic.draw(rating % 3))


def test_it_works_in_pipelines_and_experiments_and_equal_stages_are_paid_for_once():
    frame = candidates(queries=3, documents=80)
    qrels = frame[is_needed(frame)][["qid", "docno"]].assign(label=1)
    topics = frame[["qid", "query"]].drop_duplicates()
    retriever = pt.Transformer.from_df(frame)
    with served() as server:

        def system(**settings):
            return retriever % 40 >> RatingReranker("solver", url=server.url, **settings)

        systems = [system(), system() >> pt.apply.doc_score(lambda row: -row["rank"]), system(seed=1)]
        table = pt.Experiment(systems, topics, qrels, [nDCG @ 10], plan="tree", verbose=False)
        assert server.tally.calls.total() == 2 * 3 * 40
        assert (system() % 5)(topics)["rank"].max() == 4
        final = Interpolate(system(), retriever % 40, alpha=0.5, normalise=None)(topics)
        np.testing.assert_allclose(final["score"], 0.5 * final["rating"] / 5 + 0.5 * final["retrieval_score"])
    assert table["nDCG@10"].iloc[0] > 0.9


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RatingReranker("solver")
