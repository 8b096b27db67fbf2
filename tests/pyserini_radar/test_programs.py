"""Pyserini's own programs and searcher rank with a RaDeR checkpoint as we do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyserini_radar import encode, export_faiss, import_faiss
from pyterrier_radar import RadarIndex
from tests.anserini import needs_pyserini
from torch_radar import Encoder, bright_instruction

pytestmark = needs_pyserini

DOCUMENTS = {
    "lagrange": "Let $G$ be a finite group.\nThen the order of a subgroup divides the order of $G$.",
    "extreme": "A continuous function on a closed bounded interval attains its maximum.\n\n\\begin{proof} \\end{proof}",
    "ferry 1": "The ferry leaves at 7:45 and every 12 minutes after that.",
    "étale": "A morphism $f : X \\to Y$ is étale — 定理, теорема",
    "empty": "",
    "long": "an open cover of a compact space has a finite subcover, and again: " * 60 + "done",
}
QUERIES = {"1": "why does the size of a subgroup divide that of the group?", "2": "waiting for a boat", "3": "定理"}


def python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, for a JVM of its own; somewhere where the repository's folders are not in the way."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "JAVA_HOME")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


def program(name: str, *arguments: str | Path, folder: Path) -> None:
    done = python("-m", f"pyserini_radar.{name}", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the documents as Pyserini reads them, the newlines inside ``contents``, and the queries."""
    (tmp_path / "corpus").mkdir()
    records = [json.dumps({"id": docno, "contents": text}) for docno, text in DOCUMENTS.items()]
    (tmp_path / "corpus" / "documents.jsonl").write_text("\n".join(records) + "\n", "utf-8")
    (tmp_path / "topics.tsv").write_text("".join(f"{qid}\t{query}\n" for qid, query in QUERIES.items()), "utf-8")
    return tmp_path


def own_ranking(encoder: Encoder, k: int = 4) -> pd.DataFrame:
    scores = encoder.encode_queries(QUERIES.values()) @ encoder.encode_documents(DOCUMENTS.values()).T
    rows = [
        (qid, list(DOCUMENTS)[row], scores[place, row])
        for place, qid in enumerate(QUERIES)
        for row in np.argsort(-scores[place])[:k]
    ]
    return pd.DataFrame(rows, columns=["qid", "docno", "score"])


def read_run(path: Path) -> pd.DataFrame:
    """A TREC run; Pyserini writes a docno with a blank in it as it is, so the columns are cut from both ends."""
    rows = []
    for line in path.read_text("utf-8").splitlines():
        qid, _, rest = line.split(" ", 2)
        docno, _, score, _ = rest.rsplit(" ", 3)
        rows.append((qid, docno, float(score)))
    return pd.DataFrame(rows, columns=["qid", "docno", "score"])


def require_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found[["qid", "docno"]].values.tolist() == expected[["qid", "docno"]].values.tolist()
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)


def encode_and_search(work: Path, checkpoint: str, *more: str) -> pd.DataFrame:
    options = ["--encoder", checkpoint, "--encoder-class", "radar", "--dtype", "float32"]
    parts = ["input", "--corpus", "corpus", "output", "--embeddings", "faiss", "--to-faiss", "encoder", *options]
    program("encode", *parts, folder=work)
    search = ["--index", "faiss", "--topics", "topics.tsv", "--output", "run.txt", "--hits", "4", *options]
    program("search_faiss", *search, *more, folder=work)
    return read_run(work / "run.txt")


def test_encode_and_search_rank_as_we_do_with_a_radar_checkpoint_and_an_instruction(
    work: Path, tiny_qwen2: Path
) -> None:
    found = encode_and_search(work, str(tiny_qwen2), "--bright", "theoremqa_theorems", "--batch-size", "1")
    instruction = bright_instruction("theoremqa_theorems")
    require_equal(found, own_ranking(Encoder(tiny_qwen2, dtype="float32", instruction=instruction)))


def test_encode_and_search_rank_as_we_do_with_the_small_default(work: Path) -> None:
    require_equal(encode_and_search(work, "radar-mini"), own_ranking(Encoder("radar-mini", dtype="float32")))


def test_titles_and_texts_of_their_own_fields_are_read(work: Path, tiny_qwen2: Path) -> None:
    record = {"id": "a", "title": "Lagrange", "text": "The order\ndivides."}
    (work / "corpus" / "documents.jsonl").write_text(json.dumps(record) + "\n")
    fields = ["--fields", "title", "text"]
    parts = ["input", "--corpus", "corpus", *fields, "output", "--embeddings", "vectors", "encoder", *fields]
    program("encode", *parts, "--encoder", tiny_qwen2, "--dtype", "float32", "--max-length", "12", folder=work)
    (line,) = (work / "vectors" / "embeddings.jsonl").read_text().splitlines()
    encoder = Encoder(tiny_qwen2, dtype="float32", max_document_tokens=12)
    expected = encoder.encode_documents(["Lagrange The order\ndivides."])[0]
    np.testing.assert_allclose(json.loads(line)["vector"], expected, atol=1e-6)


def test_pyserini_searches_an_exported_index_and_we_an_imported_one(work: Path, tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2, dtype="float32")
    documents = [{"docno": docno, "text": text} for docno, text in DOCUMENTS.items()]
    own = RadarIndex(work / "own.radar", encoder, dtype="float32", empty_text="encode").index(documents)
    export_faiss(own.path, work / "faiss")
    script = """
import json, sys
from pyserini_radar import RadarQueryEncoder, prepare_pyserini
prepare_pyserini()
from pyserini.search.faiss import FaissSearcher
searcher = FaissSearcher("faiss", RadarQueryEncoder(sys.argv[1], dtype="float32"))
queries = json.loads(sys.argv[2])
one = [(qid, hit.docid, float(hit.score)) for qid, query in queries.items() for hit in searcher.search(query, 4)]
many = searcher.batch_search(list(queries.values()), list(queries), 4)
assert [hit.docid for hits in many.values() for hit in hits] == [docno for _, docno, _ in one]
print(json.dumps(one))
"""
    done = python("-c", script, tiny_qwen2, json.dumps(QUERIES), folder=work)
    assert done.returncode == 0, done.stderr
    found = pd.DataFrame(json.loads(done.stdout.splitlines()[-1]), columns=["qid", "docno", "score"])
    require_equal(found, own_ranking(encoder))

    import_faiss(work / "faiss", work / "back.radar")
    topics = pd.DataFrame({"qid": list(QUERIES), "query": list(QUERIES.values())})
    require_equal(RadarIndex(work / "back.radar", encoder).retriever(4)(topics), own_ranking(encoder))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pooling", "mean"], "--pooling: text form, pooling and normalisation are the checkpoint's own"),
        (["--prefix=passage:"], "--prefix: text form"),
        (["--dimension", "768"], "makes vectors of 64 values, not 768"),
        (["--fp16", "--dtype", "float32"], "exclude each other"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused_before_anything_is_encoded(
    work: Path, tiny_qwen2: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = work / "vectors"
    parts = ["input", "--corpus", "corpus", "output", "--embeddings", target, "encoder", "--encoder", tiny_qwen2]
    with pytest.raises(SystemExit, match="2"):
        encode.main([*map(str, parts), *options])
    assert says in capsys.readouterr().err
    assert not target.exists()


def test_vectors_that_are_there_are_kept(work: Path, tiny_qwen2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = work / "corpus"
    parts = ["input", "--corpus", "corpus", "output", "--embeddings", target, "encoder", "--encoder", tiny_qwen2]
    with pytest.raises(SystemExit, match="2"):
        encode.main(list(map(str, parts)))
    assert "corpus exists" in capsys.readouterr().err


def test_a_run_that_fails_leaves_no_folder(work: Path, tiny_qwen2: Path) -> None:
    parts = ["input", "--corpus", "corpus", "output", "--embeddings", "vectors", "encoder", "--encoder", tiny_qwen2]
    (work / "corpus" / "more.jsonl").write_text(json.dumps({"contents": "a document without an id"}) + "\n")
    done = python("-m", "pyserini_radar.encode", *parts, folder=work)
    assert done.returncode == 1 and "Cannot find" in done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["corpus", "topics.tsv"]
