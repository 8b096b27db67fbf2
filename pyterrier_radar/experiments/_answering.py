"""Question answering: a language model alone, and with the best documents of each system; finished stages are kept."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_radar import RadarBiEncoder, RadarReranker
from pyterrier_radar._answers import MISSING, STATUSES, AnswerQuestions
from pyterrier_radar._llm import decides_answers, spent
from pyterrier_radar.commands._collection import Collection, Task, digest, open_collection
from pyterrier_radar.commands._runs import RunFolder
from pyterrier_radar.commands._systems import Settings, Systems
from pyterrier_radar.datasets import LocalDataset
from pyterrier_radar.experiments._declarations import Experiment, Split
from pyterrier_radar.experiments._questions import find_questions, load_questions, read_questions
from pyterrier_radar.experiments._results import Cell
from pyterrier_radar.experiments._runner import ANSWERS, LanguageModelServer, effective_instruction
from radar_cli import note
from torch_radar.files import replacing
from torch_radar.local_tasks import DOCUMENTS, find_lines
from torch_radar.paper import ORIGINAL

ALONE = "none"
"""The system that retrieves nothing: the language model reads the question alone."""


@dataclass(frozen=True)
class Stage:
    """The answers of one system: a row for each question, how long they took, counts."""

    frame: pd.DataFrame
    seconds: float
    reused: bool
    facts: dict[str, int]


def run_questions(
    experiment: Experiment,
    systems: Sequence[str],
    encoder: RadarBiEncoder,
    output: Path,
    llm: LanguageModelServer,
    *,
    documents: int = 5,
    reranker: RadarReranker | None = None,
    data: Path | None = None,
    instruction: str = "auto",
    alpha: float | None = None,
    settings: Settings | None = None,
) -> list[Cell]:
    """Answers the questions of an experiment without retrieval and with the documents of each system.

    Solutions of the language model are kept as they come, rankings and judged answers as they are finished. Whatever is
    there, made of the same, is used again: a second run makes no call and loads no model.

    Args:
        experiment: what to run; it has one split.
        systems: of ``commands._systems.SYSTEMS``; answering without retrieval comes first, always.
        encoder: the retriever.
        output: the folder.
        llm: who answers.
        documents: the most documents that it reads for a question.
        reranker: for ``reranked``.
        data: a folder with the questions and, if they aren't ir_datasets', the documents.
        instruction: ``"auto"`` for the split's own.
        alpha: weight of the dense ranking in the hybrid; the split's own where None.
        settings: depths, and which BM25; its alpha is not read.

    Returns:
        a cell for each system, that without retrieval first.

    Raises:
        ValueError: a question or document is broken.
        OSError: the questions aren't there.
    """
    [split] = experiment.splits
    questions = read_questions(find_questions(data)) if data else load_questions()
    topics = questions[["qid", "query"]]
    note(f"{experiment.name}: {len(topics)} questions")

    def answered(system: str, candidates: pd.DataFrame, read_from: object) -> Stage:
        answering = AnswerQuestions(
            llm.model,
            golds=questions,
            url=llm.url,
            documents=documents,
            cache=output / ANSWERS,
            api_key=llm.api_key,
            verbose=True,
        )
        return _stage(answering, topics, candidates, read_from, output / "answers", f"{split.name}.{system}")

    cells = [_cell(split, ALONE, answered(ALONE, topics.iloc[:0].assign(docno="", text=""), None), 0.0)]
    if not systems:
        return cells
    collection = _documents(split, data)
    excluded = {row.qid: sorted(row.excluded_ids) for row in questions.itertuples() if row.excluded_ids}
    task = Task(topics, pd.DataFrame({"qid": [], "docno": [], "label": []}), excluded, questions=topics)
    bench = Systems(
        collection,
        task,
        encoder.with_instruction(effective_instruction(split, instruction, encoder)),
        reranker,
        (settings or Settings()).with_alpha(split.alpha if alpha is None else alpha),
        RunFolder(output / "runs", f"{split.name}.{ORIGINAL}"),
        systems,
        llm.rater(split.family, output) if "rated" in systems else None,
    )
    for system in systems:
        ranking = bench.ranking(system)
        best = ranking.frame[ranking.frame["rank"] < documents].merge(topics, on="qid")
        candidates = collection.with_texts(best)
        read_from = (collection.fingerprint(), list(best[["qid", "docno"]].itertuples(index=False, name=None)))
        cells.append(_cell(split, system, answered(system, candidates, read_from), ranking.seconds))
    return cells


def _documents(split: Split, data: Path | None) -> Collection:
    """The documents in the user's folder, BRIGHT's or BEIR's; without any, those of ir_datasets."""
    for name, text_field in ((DOCUMENTS, "content"), ("corpus", None)):
        if data is not None and (path := find_lines(data, name)):
            return Collection(split.name, LocalDataset(docs=path, text_field=text_field), text_field, "keep")
    assert split.dataset is not None
    return open_collection(split.dataset, empty_text="keep")


def _stage(
    answering: AnswerQuestions,
    topics: pd.DataFrame,
    candidates: pd.DataFrame,
    read_from: object,
    folder: Path,
    name: str,
) -> Stage:
    """The answers from a finished stage that was made of the same, or new ones; what found nothing is asked alone."""
    asked = list(topics.itertuples(index=False, name=None))
    configuration = digest(decides_answers(answering), asked, read_from)
    path = folder / f"{name}.{configuration[:10]}.json"
    if (kept := _kept(path, configuration)) is not None:
        note(f"reusing the finished answers of {name}")
        return kept
    note(f"answering {name}")
    start = time.perf_counter()
    bare = topics[~topics["qid"].isin(set(candidates["qid"]))]
    parts = [answering(frame) for frame in (candidates, bare) if len(frame)]
    frame = pd.concat(parts).set_index("qid").loc[topics["qid"]].reset_index()
    seconds = time.perf_counter() - start
    facts = {"right": int(frame["is_right"].sum())}
    facts |= {status: int((frame["answer_status"] == status).sum()) for status in STATUSES}
    facts |= spent(answering.usage)
    read = candidates.groupby("qid", sort=False)["docno"].agg(list).to_dict()
    columns = ["qid", "answer", "answer_status", "is_right", "solution"]
    answers = [row | {"docnos": read.get(row["qid"], [])} for row in frame[columns].to_dict("records")]
    content = {"configuration": configuration, "seconds": seconds, "facts": facts, "answers": answers}
    with replacing(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return Stage(frame, seconds, reused=False, facts=facts)


def _kept(path: Path, configuration: str) -> Stage | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content["configuration"] != configuration or content["facts"][MISSING]:
            return None  # the next run asks again for what is missing, and for nothing else
        frame = pd.DataFrame(content["answers"])[["qid", "is_right"]]
        return Stage(frame, float(content["seconds"]), reused=True, facts=content["facts"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return None  # not there, or damaged: it is made again, from the cache of solutions


def _cell(split: Split, system: str, stage: Stage, retrieval_seconds: float) -> Cell:
    values = pd.DataFrame({split.main_measure: stage.frame["is_right"].astype("float64")})
    values.index = pd.Index(stage.frame["qid"], name="qid")
    per_question = 1000 * (retrieval_seconds + stage.seconds) / len(values)
    return Cell(split, ORIGINAL, system, values, per_question, stage.reused, stage.facts)
