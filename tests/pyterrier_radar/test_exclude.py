import pandas as pd
import pyterrier as pt
import pytest
from pandas.testing import assert_frame_equal

from pyterrier_radar import ExcludeDocuments


def ranking(*rows, columns=("qid", "docno", "score", "rank")):
    return pd.DataFrame(rows, columns=list(columns))


RESULTS = ranking(
    ("q1", "d1", 3.0, 0),
    ("q1", "d2", 2.0, 1),
    ("q1", "q1", 1.0, 2),
    ("q2", "d1", 9.0, 0),
    ("q2", "d3", 8.0, 1),
)


def kept(frame):
    return list(frame[["qid", "docno", "rank"]].itertuples(index=False, name=None))


def test_documents_of_a_dictionary_leave_and_ranks_close_up():
    out = ExcludeDocuments({"q1": ["d1"], "q2": ["d1", "d9"]})(RESULTS)
    assert kept(out) == [("q1", "d2", 0), ("q1", "q1", 1), ("q2", "d3", 0)]


def test_qrels_exclude_only_at_label_minus_100():
    qrels = pd.DataFrame(
        [("q1", "d1", 1), ("q1", "d2", -100), ("q2", "d3", 0), ("q2", "d1", -1)],
        columns=["qid", "docno", "label"],
    )
    assert kept(ExcludeDocuments(qrels)(RESULTS)) == [
        ("q1", "d1", 0),
        ("q1", "q1", 1),
        ("q2", "d1", 0),
        ("q2", "d3", 1),
    ]


def test_a_frame_without_labels_excludes_every_row():
    pairs = pd.DataFrame([("q1", "d1"), ("q1", "d2")], columns=["qid", "docno"])
    assert kept(ExcludeDocuments(pairs)(RESULTS)) == [("q1", "q1", 0), ("q2", "d1", 0), ("q2", "d3", 1)]


def test_self_retrieval_drops_the_document_named_like_the_query():
    assert ("q1", "q1", 2) not in kept(ExcludeDocuments(self_retrieval=True)(RESULTS))
    assert len(ExcludeDocuments(self_retrieval=True)(RESULTS)) == len(RESULTS) - 1


def test_numbers_exclude_the_strings_they_print_as():
    frame = ranking(("7", "12", 1.0, 0))
    assert len(ExcludeDocuments({7: [12]})(frame)) == 0


def test_nothing_to_exclude_leaves_the_ranking_as_it_was():
    assert_frame_equal(ExcludeDocuments()(RESULTS), RESULTS)


def test_ranks_follow_the_old_ranks_where_scores_are_equal():
    frame = ranking(("q", "b", 1.0, 1), ("q", "a", 1.0, 0), ("q", "c", 1.0, 2))
    out = ExcludeDocuments({"q": ["a"]})(frame)
    assert kept(out) == [("q", "b", 0), ("q", "c", 1)]


def test_the_input_frame_is_not_changed():
    before = RESULTS.copy(deep=True)
    ExcludeDocuments({"q1": ["d1"]})(RESULTS)
    assert_frame_equal(RESULTS, before)


def test_a_ranking_without_rank_or_score_keeps_its_columns():
    out = ExcludeDocuments({"q1": ["d1"]})(RESULTS[["qid", "docno"]])
    assert list(out.columns) == ["qid", "docno"] and len(out) == 4


@pytest.mark.parametrize("columns", [["qid", "docno"], ["qid", "query", "docno", "score", "rank"]])
def test_zero_rows_stay_zero_rows_with_the_same_columns(columns):
    out = ExcludeDocuments({"q1": ["d1"]}, self_retrieval=True)(pd.DataFrame(columns=columns))
    assert list(out.columns) == columns and len(out) == 0


def test_a_cutoff_is_applied_after_the_exclusion():
    results = pt.Transformer.from_df(RESULTS)
    pipeline = (results >> ExcludeDocuments({"q1": ["d1"]}) % 1).compile()
    topics = pd.DataFrame([("q1",), ("q2",)], columns=["qid"])
    assert list(pipeline(topics)["docno"]) == ["d2", "d1"]


def test_a_frame_without_docno_is_refused_by_name():
    with pytest.raises(ValueError, match="docno"):
        ExcludeDocuments(pd.DataFrame({"qid": ["q1"], "label": [-100]}))


def test_a_string_where_docnos_are_expected_is_refused_with_its_qid():
    with pytest.raises(ValueError, match="q1"):
        ExcludeDocuments({"q1": "d1"})


def test_equality_covers_every_setting():
    one = ExcludeDocuments({"q1": ["d1", "d2"]})
    same = ExcludeDocuments(pd.DataFrame({"qid": ["q1", "q1"], "docno": ["d2", "d1"]}))
    assert one == same and hash(one) == hash(same)
    assert one != ExcludeDocuments({"q1": ["d1"]})
    assert one != ExcludeDocuments({"q1": ["d1", "d2"]}, self_retrieval=True)


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return ExcludeDocuments({"q1": ["d1"]})


def test_exclusions_without_queries_are_refused():
    with pytest.raises(ValueError, match="exclusions belong to queries"):
        ExcludeDocuments(["d1"])
