"""Hard negatives for a training set: proposed by miners, guarded against false ones, in a run that may be killed.

``sentence_transformers.util.mine_hard_negatives`` is not used: it mines with one encoder, keeps the whole corpus, its
vectors and the result in memory, starts again after a kill, and knows documents by their texts alone, so that neither
docnos nor other relevant documents nor passages of one document can be excluded and no origin is recorded; its rule of
the relative margin (NV-Retriever, https://arxiv.org/abs/2407.15831) is used here too.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from torch_radar.files import replacing
from training.data import DataError, Documents, Example, Negative, TrainingSet, write_examples
from training.data.format import stem
from training.data.records import read_records
from training.negatives.guards import GUARDS, Guard, Relevance
from training.negatives.journal import journal, require_same, write_json
from training.negatives.miners import BM25Miner, EncoderMiner, Miner, RandomMiner, Ranking, ScoringMiner, contents

__all__ = ["BM25Miner", "EncoderMiner", "Miner", "RandomMiner", "ScoringMiner", "mine", "read_counts"]

logger = logging.getLogger(__name__)


def mine(
    training_set: TrainingSet,
    miners: Sequence[Miner],
    how_many: int,
    output: str | Path,
    *,
    depth: int = 100,
    skip: int = 0,
    margin: float | None = 0.05,
    ranked: bool = False,
    same_document: Callable[[str], str] | None = None,
    texts: Literal["inline", "beside"] | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Writes the examples again, each with its negatives filled up to ``how_many`` by mined ones.

    Negatives that an example has stay, in front, even if they are more. Then the miners take turns, each giving the
    next document of its ranking that no guard removes, with an origin of miner and rank such as ``"bm25-37"``. A
    document is removed that

    - is the positive, is also relevant, or is the positive of another example with the same query or query id;
    - is the query's own document: its docno is the query id;
    - has the text of a relevant document, or is of the same document as one, or as the query (``same_document``);
    - is scored by a :class:`ScoringMiner` above the positive's score less ``margin`` times its magnitude. Whoever
      proposes it: what an encoder takes for a false negative does not come back by way of BM25;
    - is a negative of the example already, by docno or by text.

    A run that was stopped, at any moment and in any way, goes on where it was and ends with the same bytes.

    Args:
        training_set: The examples, and the texts of all documents.
        miners: Who proposes; their names differ.
        how_many: Negatives an example shall have; it has fewer where the rankings do not hold enough.
        output: The file to write, ``.jsonl``. Beside it, ``<output>.mining.json`` records settings and counts.
        depth: The last rank that is looked at.
        skip: First ranks left out of the rankings of miners that are no :class:`ScoringMiner`.
        margin: See above; None for no such guard.
        ranked: Whether to leave out an example whose positive no miner ranks. A reranker needs that: it orders what
            a first stage found, and where only negatives were found it can learn how a text came there instead. Ask for
            as many negatives as the depth, else all of them rank high and positives anywhere.
        same_document: Gives a docno's document where docnos name passages.
        texts: Where the texts go: ``"inline"``, ``"beside"`` (``x.documents.jsonl`` for ``x.jsonl``, with
            those that examples name), or nowhere: then the file is read with ``training_set.documents``.
        batch: Examples in a block: what is ranked at once, and the most that is computed again after a kill.
        seed: Decides, for each example, in which order the miners take turns.
        progress: Whether to show a progress bar.

    Returns:
        ``output``; :func:`read_counts` gives what each guard removed.

    Raises:
        ValueError: For a setting out of its range or two miners of one name.
        JournalError: If ``output`` was begun with other settings or is another's, or is being written.
        DataError: For a mined document that the training set has no text of, labels that contradict each other, or if
            ``ranked`` leaves nothing.
    """
    output = Path(output)
    settings: dict[str, Any] = {
        "how_many": how_many,
        "depth": depth,
        "skip": skip,
        "margin": margin,
        "ranked": ranked,
        "texts": texts,
        "batch": batch,
        "seed": seed,
    }
    _check(settings, miners, output)
    relevance = Relevance(training_set, same_document)
    settings |= {"examples": relevance.fingerprint, "documents": contents(training_set.documents)}
    settings |= {"same_document": relevance.grouping, "miners": {miner.name: miner.settings() for miner in miners}}
    record, work = _record_of(output), output.with_name(f"{output.name}.mining")
    if output.exists():
        if not record.exists():
            raise DataError(f"{output} exists and was not mined here: choose another output, or delete it")
        require_same(settings, json.loads(record.read_text(encoding="utf-8"))["settings"], record)
        shutil.rmtree(work, ignore_errors=True)  # what a run left that was killed after its last step
        return output
    inline = training_set.documents if texts == "inline" else None
    with journal(work, settings) as done:
        miner = _Mining(training_set, miners, settings, relevance)
        counts = Counter(done.state)
        starts = range(counts["examples"], len(training_set), batch)
        with tqdm(
            total=len(training_set), initial=counts["examples"], desc="mining", unit=" examples", disable=not progress
        ) as bar:
            for start in starts:
                block = miner.block(start, min(start + batch, len(training_set)), counts)
                done.append(_lines(work / "block.jsonl", block, inline), dict(counts))
                bar.update(min(batch, len(training_set) - start))
        if not done.data.stat().st_size:
            shutil.rmtree(work)
            raise DataError(
                f"no miner ranks the positive of any example among its first {depth}: raise depth, or do without ranked"
            )
        if texts == "beside":
            beside = work / "documents.jsonl"
            _write_documents(beside, done.data, training_set.documents)
            os.replace(beside, output.with_name(f"{stem(output)}.documents.jsonl"))
        write_json(record, {"settings": settings, "counts": _named(counts)})
        os.replace(done.data, output)
    shutil.rmtree(work)
    logger.info("%s: %s", output, _named(counts))
    return output


def read_counts(output: str | Path) -> dict[str, Any]:
    """Returns what mining ``output`` counted.

    Returns:
        ``examples`` that were read, ``unranked`` ones that were left out, ``mined`` (negatives), ``short`` (examples
        with fewer than ``how_many``), and ``removed``: by guard, the candidates removed until an example had enough. A
        candidate counts for the first guard it meets.
    """
    return json.loads(_record_of(Path(output)).read_text(encoding="utf-8"))["counts"]


class _Mining:
    """Blocks of examples to blocks of examples with mined negatives."""

    def __init__(
        self, training_set: TrainingSet, miners: Sequence[Miner], settings: Mapping[str, Any], relevance: Relevance
    ):
        self._set, self._miners, self._settings, self._relevance = training_set, miners, settings, relevance
        scoring = [miner for miner in miners if isinstance(miner, ScoringMiner)]
        self._scoring = [] if settings["margin"] is None else scoring

    def block(self, start: int, stop: int, counts: Counter[str]) -> list[Example]:
        """Mines for the examples from ``start`` to ``stop`` and adds to ``counts`` what was done."""
        examples = [self._set[row] for row in range(start, stop)]
        positives: dict[str, list[str]] = {}  # each distinct query is ranked once
        for example in examples:
            positives.setdefault(example.query, []).append(example.positive)
        queries = list(positives)
        depth = self._settings["depth"]
        rankings = {miner.name: dict(zip(queries, miner.rank(queries, depth), strict=True)) for miner in self._miners}
        limits = [self._limits(miner, positives) for miner in self._scoring]
        filled = []
        for row, example in enumerate(examples, start):
            counts["examples"] += 1
            if self._settings["ranked"] and not any(
                docno == example.positive for by_query in rankings.values() for docno, _ in by_query[example.query]
            ):
                counts["unranked"] += 1
                continue
            vetoed = {
                docno
                for miner, limit in zip(self._scoring, limits, strict=True)
                for docno, score in rankings[miner.name][example.query]
                if score > limit[example.query, example.positive]
            }
            mined = self._choose(
                row, example, {name: by_query[example.query] for name, by_query in rankings.items()}, vetoed, counts
            )
            counts["mined"] += len(mined)
            counts["short"] += len(example.negatives) + len(mined) < self._settings["how_many"]
            filled.append(replace(example, negatives=example.negatives + tuple(mined)))
        return filled

    def _limits(self, miner: ScoringMiner, positives: dict[str, list[str]]) -> dict[tuple[str, str], float]:
        """The score that no negative may exceed, by query and positive."""
        scores = miner.scores(list(positives), list(positives.values()))
        # The magnitude, because a share of a negative cosine would lie above it.
        return {
            (query, docno): score - self._settings["margin"] * abs(score)
            for (query, docnos), of_query in zip(positives.items(), scores, strict=True)
            for docno, score in zip(docnos, of_query, strict=True)
        }

    def _choose(
        self, row: int, example: Example, rankings: dict[str, Ranking], vetoed: set[str], counts: Counter[str]
    ) -> list[Negative]:
        guard = Guard(example, self._relevance, vetoed)

        def proposals(miner: Miner) -> Iterator[Negative]:
            first = 0 if isinstance(miner, ScoringMiner) else self._settings["skip"]
            for rank, (docno, _) in enumerate(rankings[miner.name][first:], first + 1):
                reason = guard.removes(docno)
                if reason is None:
                    yield Negative(docno, f"{miner.name}-{rank}")
                else:
                    counts[reason] += 1

        order = np.random.default_rng([self._settings["seed"], row]).permutation(len(self._miners))
        turns = deque(proposals(self._miners[place]) for place in order)
        mined: list[Negative] = []
        while turns and len(example.negatives) + len(mined) < self._settings["how_many"]:
            turn = turns.popleft()
            negative = next(turn, None)
            if negative is not None:
                mined.append(negative)
                guard.take(negative.docno)
                turns.append(turn)
        return mined


def _check(settings: Mapping[str, Any], miners: Sequence[Miner], output: Path) -> None:
    for name in ("how_many", "depth", "batch"):
        if settings[name] < 1:
            raise ValueError(f"{name} must be at least 1, not {settings[name]!r}")
    if not 0 <= settings["skip"] < settings["depth"]:
        raise ValueError(f"skip must lie from 0 to below depth ({settings['depth']}), not at {settings['skip']!r}")
    if settings["ranked"] and settings["skip"]:
        raise ValueError(
            "skip leaves out first ranks of the negatives alone: positives would be told by theirs (ranked)"
        )
    if settings["margin"] is not None and not 0 <= settings["margin"] < 1:
        raise ValueError(f"margin must be None or from 0 to below 1, not {settings['margin']!r}")
    if settings["texts"] not in (None, "inline", "beside"):
        raise ValueError(f"texts must be None, 'inline' or 'beside', not {settings['texts']!r}")
    if output.suffix != ".jsonl":
        raise ValueError(f"{output}: its name must end in .jsonl; write_examples makes other files of it")
    names = [miner.name for miner in miners]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"give miners of different names, at least one, not {names}: a name is a miner's name=…")


def _record_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.mining.json")


def _named(counts: Counter[str]) -> dict[str, Any]:
    totals = {name: counts[name] for name in ("examples", "unranked", "mined", "short")}
    return totals | {"removed": {name: counts[name] for name in GUARDS}}


def _lines(path: Path, block: list[Example], documents: Documents | None) -> bytes:
    """A block in our format, checked and written by its one writer."""
    if not block:
        return b""
    write_examples(path, block, documents)
    return path.read_bytes()


def _write_documents(path: Path, examples: Path, documents: Documents) -> None:
    """Writes the documents that examples name, each once, as ``Documents.from_files`` reads them."""
    named: set[str] = set()
    with replacing(path) as aside, open(aside, "w", encoding="utf-8", newline="\n") as file:
        for _, example in read_records(examples):
            for docno in (one["docno"] for one in [example["positive"], *example["negatives"]]):
                if docno not in named:
                    named.add(docno)
                    json.dump({"docno": docno, "text": documents.text(docno)}, file, ensure_ascii=False)
                    file.write("\n")
