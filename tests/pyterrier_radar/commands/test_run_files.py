"""radar evaluate on run files: the paper's last figure, digit for digit, and the same on a few lines of our own."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from pyterrier_radar._files import FileFormatError
from pyterrier_radar._fuse import fuse_ratings
from pyterrier_radar._trec import read_run, write_run
from tests.pyterrier_radar.commands.cli import radar, succeeds

BRIGHT = Path(__file__).parents[4] / "shared" / "data" / "bright"
PUBLISHED = {"NDCG": "nDCG", "MAP": "AP", "Recall": "R", "P": "P", "MRR": "RR"}


def shared(name: str) -> Path:
    path = BRIGHT / name
    if not path.is_file():
        pytest.skip(f"{path} isn't here: the authors' run of TheoremQA-theorems, its ratings and judgements")
    return path


def evaluate(*more: object) -> dict[str, dict[str, float]]:
    report = json.loads(succeeds("evaluate", *more, "--json").stdout)
    return {system: row["measures"] for system, row in report["systems"].items()}


def paper_files() -> tuple[object, ...]:
    name = "rader-gte.theoremqa-theorems"
    retrieval, ratings = shared(f"{name}.retrieval.json.gz"), shared(f"{name}.ratings.json.gz")
    qrels = shared("qrels.theoremqa-theorems.txt")
    return ("--retrieval-run", retrieval, "--ratings", ratings, "--qrels", qrels)


def test_rating_and_retrieval_give_every_published_figure_exactly() -> None:
    published = json.loads(shared("rader-gte.theoremqa-theorems.published.json").read_text())
    names = {key: PUBLISHED[key.partition("@")[0]] + "".join(key.partition("@")[1:]) for key in published}
    found = evaluate(*paper_files(), "--measures", " ".join(names.values()))["rated"]
    assert {key: round(found[name], 5) for key, name in names.items()} == published
    assert round(found["nDCG@10"], 5) == 0.51561


@pytest.mark.parametrize(("scores", "value"), [("zscore", 0.45579), ("minmax", 0.48466)])
def test_a_wrong_fusion_gives_other_figures(scores: str, value: float) -> None:
    found = evaluate(*paper_files(), "--retrieval-scores", scores, "--measures", "nDCG@10")
    assert round(found["rated"]["nDCG@10"], 5) == value


RETRIEVAL = {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "out": 0.95}}
RATINGS = {"q": {"d": 1.0, "c": 0.8, "b": 0.6, "x": 1.0, "out": 1.0}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "run.json").write_text(json.dumps(RETRIEVAL, indent=1))
    (tmp_path / "ratings.json.gz").write_bytes(gzip.compress(json.dumps(RATINGS).encode()))
    (tmp_path / "qrels").write_text("q 0 c 1\nq 0 out -100\n")
    named = {"--retrieval-run": "run.json", "--ratings": "ratings.json.gz", "--qrels": "qrels"}
    return tuple(part for option, name in named.items() for part in (option, tmp_path / name))


def test_fused_are_the_retrieved_with_a_missing_rating_as_0_and_ties_in_the_order_of_retrieval(
    files: tuple[object, ...], tmp_path: Path
) -> None:
    found = evaluate(*files, "--measures", "RR", "--rating-depth", 3, "--run", tmp_path / "kept")
    run = read_run(tmp_path / "kept" / "rated.run.gz")
    # c: (0.7 + 0.8) / 2, b: (0.8 + 0.6) / 2, a: 0.9 / 2; d lies below the depth, x wasn't retrieved, out is excluded
    assert run["docno"].tolist() == ["c", "b", "a"]
    assert run["score"].tolist() == pytest.approx([0.75, 0.7, 0.45])
    assert found == {"retrieval": {"RR": 1 / 3}, "rated": {"RR": 1.0}}
    tied = pd.DataFrame({"qid": "q", "docno": ["z", "m", "a"], "score": 0.5, "rank": [0, 1, 2]})
    assert fuse_ratings(tied, tied.iloc[::-1])["docno"].tolist() == ["z", "m", "a"]


def test_excluded_documents_are_in_no_fused_run(files: tuple[object, ...], tmp_path: Path) -> None:
    bm25 = tmp_path / "bm25.json"
    bm25.write_text(json.dumps({"q": {"out": 9.0, "c": 5.0, "a": 1.0}}))
    found = evaluate(*files, "--bm25-run", bm25, "--run", tmp_path / "kept", "--alpha", 0.5)
    assert set(found) == {"retrieval", "bm25", "hybrid", "rated"}
    for system in ("hybrid", "rated"):
        assert "out" not in set(read_run(tmp_path / "kept" / f"{system}.run.gz")["docno"])


def test_a_trec_run_and_the_same_in_json_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RETRIEVAL))
    frame = read_run(tmp_path / "run.json")
    assert frame["docno"].tolist() == ["out", "a", "b", "c", "d"] and frame["rank"].tolist() == [0, 1, 2, 3, 4]
    write_run(frame, tmp_path / "run.trec.gz")
    pd.testing.assert_frame_equal(read_run(tmp_path / "run.trec.gz"), frame)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"q": {"a": 1', "not valid JSON"),
        ('{"q": ["a"]}', "an object of scores by docno"),
        ('{"q": {"a": "1"}}', "a finite number"),
        ('{"q": {"a": NaN}}', "a finite number"),
        ('{"q": {"a": 1' + "0" * 400 + "}}", "a finite number"),
        ('{"q": {"a": true}}', "a finite number"),
        ('{"q": {"a": 1, "a": 2}}', "'a' occurs a second time"),
        ('{"q": {"\\ud800": 1}}', "surrogate"),
    ],
)
def test_a_broken_json_run_is_refused(content: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(FileFormatError, match=problem):
        read_run(tmp_path / "run.json")


def test_ratings_need_a_run_and_a_run_needs_judged_queries(files: tuple[object, ...], tmp_path: Path) -> None:
    result = radar("evaluate", *files[2:])
    assert result.exit_code == 2 and "--retrieval-run" in result.stderr
    (tmp_path / "qrels").write_text("other 0 c 1\n")
    result = radar("evaluate", *files)
    assert result.exit_code == 2 and "ranks for no judged query" in result.stderr


def test_ratings_are_counted_and_those_not_divided_by_5_are_refused(files: tuple[object, ...], tmp_path: Path) -> None:
    report = json.loads(succeeds("evaluate", *files, "--rating-depth", 3, "--json").stdout)
    assert report["systems"]["rated"]["ratings"] == {"rated": 2, "unparsable": 0, "missing": 1}
    assert "2 rated, 0 unparsable, 1 missing" in succeeds("evaluate", *files, "--rating-depth", 3).stdout
    (tmp_path / "ratings.json.gz").write_bytes(gzip.compress(json.dumps({"q": {"a": 1.0, "b": -1, "c": 4}}).encode()))
    result = radar("evaluate", *files)
    assert result.exit_code == 2 and "'c' of qid 'q' the rating 4" in result.stderr and "/ 5" in result.stderr


@pytest.mark.parametrize("option", ["--output", "--systems", "--queries"])
def test_options_that_run_files_do_not_read_are_refused(option: str, files: tuple[object, ...], tmp_path: Path) -> None:
    result = radar("evaluate", *files, option, tmp_path)
    assert result.exit_code == 2 and f"{option} has no use beside --retrieval-run" in result.stderr
