"""The pipeline of docs/pipelines.md with Terrier's BM25, where Terrier's jars are, which PyTerrier gets from Maven."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyterrier as pt
import pytest

HOMES = [Path(pt.io.pyterrier_home()), Path.home() / ".m2" / "repository" / "org" / "terrier"]
JARS = ("terrier-assemblies-*-jar-with-dependencies.jar", "terrier-python-helper-*.jar")
MISSING = [jar for jar in JARS if not any(next(home.rglob(jar), None) for home in HOMES)]

DOCUMENTS = {
    "lagrange": r"Let $G$ be a finite group. The order of a subgroup divides the order of $G$.",
    "extreme": "A continuous function on a closed bounded interval attains its maximum.",
    "compact": r"Every open cover $\{U_i\}$ of a compact space has a finite subcover.",
}
QUERIES = {"1": r"does |H| divide |G| for a subgroup {H/e} of a group?", "2": "a function's maximum on [0, 1]"}

# In a process of its own: Terrier's JVM is for good, and other tests need none.
_PIPELINE = r"""
import json, sys
import pandas as pd
import pyterrier as pt
from pyterrier_radar import RadarBiEncoder
pt.java.mavenresolver.offline()
documents, queries = json.loads(sys.argv[1]), json.loads(sys.argv[2])
index = pt.terrier.IterDictIndexer(sys.argv[3]).index({"docno": d, "text": t} for d, t in documents.items())
bm25 = pt.rewrite.tokenise() >> pt.terrier.Retriever(index, wmodel="BM25") >> pt.rewrite.reset()
rerank = pt.apply.text(lambda row: documents[row["docno"]]) >> RadarBiEncoder("radar-mini").text_scorer()
topics = pd.DataFrame({"qid": list(queries), "query": list(queries.values())})
first, second = bm25(topics), (bm25 % 2 >> rerank)(topics)
print(json.dumps([frame[["qid", "docno", "score"]].values.tolist() for frame in (first, second)]))
"""


@pytest.mark.skipif(bool(MISSING), reason=f"NOT TRIED WITH TERRIER: no {', '.join(MISSING)} in {HOMES[0]} or ~/.m2")
def test_radar_reranks_what_terrier_finds_for_queries_with_any_character(tmp_path):
    command = [sys.executable, "-c", _PIPELINE, json.dumps(DOCUMENTS), json.dumps(QUERIES), str(tmp_path / "index")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (
        pd.DataFrame(rows, columns=["qid", "docno", "score"]) for rows in json.loads(done.stdout.splitlines()[-1])
    )
    assert dict(first.groupby("qid")["docno"].first()) == {"1": "lagrange", "2": "extreme"}
    pairs = {tuple(pair) for pair in first.groupby("qid").head(2)[["qid", "docno"]].values.tolist()}
    assert {tuple(pair) for pair in second[["qid", "docno"]].values.tolist()} == pairs
    assert (second["score"].abs() <= 1).all() and dict(
        second.sort_values("score", ascending=False).groupby("qid")["docno"].first()
    ) == {"1": "lagrange", "2": "extreme"}
