from dataclasses import dataclass

import pandas as pd
import pyterrier as pt
import pytest
from pandas.testing import assert_frame_equal

from pyterrier_radar import ReasoningQuery
from radar_llm import Sampling
from tests.pyterrier_radar.llm import candidates, is_needed, topics
from tests.synthesis import solver
from tests.synthesis.parts import served


class WordRetriever(pt.Transformer):
    """Ranks the theorems of the solver's world by the words that they share with the query."""

    def transform(self, inp):
        pt.validate.query_frame(inp, extra_columns=["query"])
        theorems, rows = candidates(1, 80)[["docno", "text"]], []
        for _, topic in inp.iterrows():
            asked = set(topic["query"].split())
            scores = [len(asked & set(text.split())) / len(text.split()) for text in theorems["text"]]
            rows.append(theorems.assign(**topic, score=scores))
        return pt.model.add_ranks(pd.concat(rows, ignore_index=True)) if rows else candidates().iloc[:0]


@dataclass(frozen=True)
class Silent(solver.Mind):
    """Says nothing about tiles."""

    def _reasoning(self, asked):
        return " \n" if "floor" in asked.problem else super()._reasoning(asked)


def test_the_query_becomes_the_models_reasoning_and_query_0_keeps_it():
    frame = topics(5)
    with served() as server:
        out = ReasoningQuery("solver", url=server.url)(frame)
    assert list(out["query_0"]) == list(frame["query"]) and list(out["qid"]) == list(frame["qid"])
    for query, reasoning in zip(out["query_0"], out["query"], strict=True):
        for docno in solver.truth(query).theorems:
            assert solver.world.corpus()[docno].statement in reasoning


def test_what_is_found_with_the_reasoning_is_what_the_problem_needs():
    with served() as server:
        reasoning = ReasoningQuery("solver", url=server.url)
        first = (WordRetriever() % 2)(topics(10))
        out = (reasoning >> WordRetriever() % 2)(topics(10))
    plain, reasoned = sum(is_needed(first)), sum(is_needed(out.assign(query=out["query_0"])))
    assert reasoned >= 15 > 5 > plain
    assert list(pt.rewrite.reset()(out)["query"]) == list(out["query_0"])


def test_rewriting_twice_keeps_both_and_other_columns_stay():
    with served() as server:
        reasoning = ReasoningQuery("solver", url=server.url)
        out = (reasoning >> reasoning)(topics().assign(note=["a", "b"]))
    assert list(out["query_1"]) == list(topics()["query"]) and list(out["note"]) == ["a", "b"]
    assert list(out["query_0"]) != list(out["query_1"])


def test_a_query_that_cannot_be_rewritten_stays_and_is_named(caplog):
    frame = topics(7)
    frame.loc[0, "query"] = "word " * 900
    with served(Silent(), longest_prompt=4000) as server:
        reasoning = ReasoningQuery("solver", url=server.url)
        out = reasoning(frame)
    assert list(out["qid"][out["query"] == out["query_0"]]) == ["seats-0", "tiles-4"]
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "solver rewrote 5 of 7 queries" and len(said) == 3
    assert said[1].startswith("qid 'seats-0' keeps its own words: ") and "maximum context length" in said[1]
    assert said[2] == "qid 'tiles-4' keeps its own words: the answer is blank"
    assert reasoning.usage.failed == 1


def test_many_that_fail_are_counted_and_not_all_named(caplog):
    with served(refused={"reasoning"}) as server:
        out = ReasoningQuery("solver", url=server.url)(topics(9))
    assert list(out["query"]) == list(out["query_0"])
    assert [record.getMessage() for record in caplog.records][-1] == "… and 4 more, whose query equals query_0"


def test_reasoning_that_is_cut_off_is_said(caplog):
    with served(cut={"reasoning"}) as server:
        ReasoningQuery("solver", url=server.url)(topics(3))
    assert [record.getMessage() for record in caplog.records] == ["3 rewritten queries end at 1024 tokens, cut off"]


def test_equal_queries_are_rewritten_once_and_a_second_run_asks_nothing(tmp_path):
    frame = candidates(3, 5)
    with served() as server:
        first = ReasoningQuery("solver", url=server.url, cache=tmp_path / "calls.sqlite")(frame)
        assert server.tally.calls["reasoning"] == 3
    again = ReasoningQuery("solver", url=server.url, cache=tmp_path / "calls.sqlite")
    assert_frame_equal(again(frame), first)
    assert again.usage.calls == 0


def test_how_the_model_is_asked():
    with served() as server:
        ReasoningQuery("solver", url=server.url)(topics(1))
        ReasoningQuery("solver", url=server.url, sampling=Sampling(temperature=0.5, max_tokens=64), seed=3)(topics(1))
        first, second = server.bodies
    assert (first["temperature"], first["max_tokens"]) == (0.0, 1024)
    assert (second["temperature"], second["max_tokens"]) == (0.5, 64) and first["seed"] != second["seed"]
    assert topics(1)["query"][0] in first["messages"][-1]["content"]


def test_the_input_frame_is_not_changed():
    frame = topics()
    before = frame.copy(deep=True)
    with served() as server:
        ReasoningQuery("solver", url=server.url)(frame)
    assert_frame_equal(frame, before)


def test_rows_keep_their_index():
    with served() as server:
        reasoning = ReasoningQuery("solver", url=server.url)
        out = reasoning(topics(3).set_index(pd.Index([7, 3, 7])))
        assert_frame_equal(out.reset_index(drop=True), reasoning(topics(3)))
    assert list(out.index) == [7, 3, 7]


def test_zero_rows_give_the_right_columns_and_ask_nothing():
    out = ReasoningQuery("solver", url="http://127.0.0.1:9/v1")(topics().iloc[:0])
    assert set(out.columns) == {"qid", "query", "query_0"} and len(out) == 0


@pytest.mark.parametrize(("value", "problem"), [(None, "has None"), ("  ", "has an empty query")])
def test_a_missing_or_blank_query_is_refused_with_its_qid_before_anything_is_asked(value, problem):
    frame = topics().astype(object)
    frame.loc[1, "query"] = value
    with served() as server:
        with pytest.raises(ValueError, match=f"qid 'greetings-1' {problem}.*fill it in or drop the row"):
            ReasoningQuery("solver", url=server.url)(frame)
        assert not server.bodies


def test_equality_covers_every_setting_that_changes_a_query():
    one, same = ReasoningQuery("solver"), ReasoningQuery("solver", in_flight=1, api_key="sk-1", verbose=True)
    assert one == same and hash(one) == hash(same)
    for change in ({"url": "http://localhost:9000/v1"}, {"seed": 1}, {"sampling": Sampling()}):
        assert one != ReasoningQuery("solver", **change), change
    assert one != ReasoningQuery("other")


def test_the_key_is_shown_nowhere():
    reasoning = ReasoningQuery("solver", api_key="sk-secret")
    assert "sk-secret" not in repr(reasoning) + str(pt.schematic.draw(reasoning >> WordRetriever()))


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return ReasoningQuery("solver")
