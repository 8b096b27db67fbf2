"""Search with exclusions: ours against mteb's own, over the same given vectors.

    python bench/mteb_search.py                        # 60,000 x 3,584, 20 queries, 30 exclusions each, top 1,000
    python bench/mteb_search.py --documents 5000 --dimension 256 --rounds 3

Each system runs in a process of its own, in turn. Vectors are given, so nothing is encoded: what is timed is the
search of a BRIGHT task, for which mteb gets, for every query, the list of all documents but the excluded ones.
Indexing (ours: writing the vectors to disk, once for a corpus; mteb's: nothing) is timed apart. Peak memory is the
process's, without what it held after its imports. Documents of both top-1,000s are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

WINDOW = 4096
SYSTEMS = ("radar", "mteb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--dimension", type=int, default=3584)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--excluded", type=int, default=30)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--ranking", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        print(json.dumps(measure(arguments)))
        return
    outcomes: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for system in SYSTEMS:
                ranking = Path(folder) / f"{system}.json"
                command = [sys.executable, __file__, *sys.argv[1:], "--system", system, "--ranking", str(ranking)]
                environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
                ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
                outcomes[system].append(json.loads(ran.stdout.splitlines()[-1]))
        ours, theirs = (json.loads((Path(folder) / f"{system}.json").read_text()) for system in SYSTEMS)
    figures = {s: {key: median(o[key] for o in outcomes[s]) for key in outcomes[s][0]} for s in SYSTEMS}
    for system, values in figures.items():
        print(system, "  ".join(f"{key} {value:.2f}" for key, value in values.items()))
    same = sum(ours[qid].keys() == theirs[qid].keys() for qid in theirs)
    largest = max(abs(ours[q][d] - s) for q, scores in theirs.items() for d, s in scores.items() if d in ours[q])
    print(f"equal top {arguments.k}: {same} of {len(theirs)} queries; largest difference of a score {largest:.1e}")
    print(f"peak memory: {figures['radar']['memory_MiB'] / figures['mteb']['memory_MiB']:.2f} x mteb's")
    print(f"search: {figures['mteb']['search_s'] / figures['radar']['search_s']:.1f} x as fast as mteb's")


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of indexing and of searching, and peak memory, of one system."""
    from datasets import Dataset
    from mteb.abstasks.task_metadata import TaskMetadata

    import mteb_radar.search  # noqa: F401

    docnos = [f"d{i:06}" for i in range(arguments.documents)]
    qids = [f"q{i}" for i in range(arguments.queries)]
    draws = np.random.default_rng(1)
    excluded = {qid: set(draws.choice(docnos, arguments.excluded, replace=False)) for qid in qids}
    top_ranked = {qid: [docno for docno in docnos if docno not in excluded[qid]] for qid in qids}
    corpus = Dataset.from_dict({"id": docnos, "text": docnos})
    queries = Dataset.from_dict({"id": qids, "text": qids})
    metadata = TaskMetadata(
        name="Given",
        description="Vectors are given.",
        type="Retrieval",
        category="t2t",
        dataset={"path": "local/given", "revision": "1"},
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    common: dict[str, Any] = {
        "task_metadata": metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": 4096, "show_progress_bar": False},
        "num_proc": None,
    }
    before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        model = _radar(arguments, folder) if arguments.system == "radar" else _mteb(arguments)
        start = perf_counter()
        model.index(corpus, **common)
        indexed = perf_counter()
        ranking = model.search(queries, top_k=arguments.k, top_ranked=top_ranked, **common)
        searched = perf_counter()
        if arguments.system == "mteb":  # it makes and holds its vectors here, where ours are made before
            searched -= model.model.made_in
        arguments.ranking.write_text(json.dumps(ranking))
        return {"index_s": indexed - start, "search_s": searched - indexed, "memory_MiB": (_peak() - before) / 1024}


def _radar(arguments: argparse.Namespace, folder: str) -> Any:
    import torch

    from mteb_radar import RadarSearch
    from torch_radar.batching import keep_freed_memory

    keep_freed_memory()  # as loading a model does, which encodes the queries before any search

    class Given(RadarSearch):
        """Our search over vectors that are there already."""

        def __init__(self) -> None:
            self.folder, self.store_dtype, self.devices, self.store = Path(folder), "float32", (), None
            self.encoder = SimpleNamespace(
                document_settings=lambda: {"vectors": "given"},
                dtype=torch.float32,
                device=torch.device("cpu"),
                progress=False,
                encode_documents=lambda texts: _vectors(arguments, texts),
            )

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:
            return _vectors(arguments, [text for batch in inputs for text in batch["text"]])

    return Given()


def _mteb(arguments: argparse.Namespace) -> Any:
    from mteb.models.search_wrappers import SearchEncoderWrapper
    from mteb.similarity_functions import cos_sim
    from mteb.types import PromptType

    class Given:
        """An encoder whose vectors are there already."""

        mteb_model_meta = None
        made_in = 0.0

        def encode(self, inputs: Any, *, prompt_type: PromptType, **_: Any) -> np.ndarray:
            if prompt_type == PromptType.query:
                return _vectors(arguments, [text for batch in inputs for text in batch["text"]])
            start = perf_counter()
            matrix = np.empty((arguments.documents, arguments.dimension), dtype=np.float32)
            texts = list(inputs.dataset["text"])
            for row in range(0, len(texts), WINDOW):
                matrix[row : row + WINDOW] = _vectors(arguments, texts[row : row + WINDOW])
            self.made_in = perf_counter() - start
            return matrix

        similarity = staticmethod(cos_sim)

    return SearchEncoderWrapper(Given())


def _vectors(arguments: argparse.Namespace, texts: list[str]) -> np.ndarray:
    """Unit rows that depend on each text alone: a base vector of its window, rolled by its number."""
    rows = np.empty((len(texts), arguments.dimension), dtype=np.float32)
    for place, text in enumerate(texts):
        number = int(text[1:])
        base, shift = divmod(number, 64)
        seed = base + (10**6 if text.startswith("q") else 0)
        rows[place] = np.roll(np.random.default_rng(seed).standard_normal(arguments.dimension, dtype=np.float32), shift)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _peak() -> int:
    """The most memory this process has held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
