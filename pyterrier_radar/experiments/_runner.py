"""The runner: every system on every split under every form of the queries; a finished stage is found again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pyterrier_radar import RadarBiEncoder, RadarReranker
from pyterrier_radar._files import read_queries
from pyterrier_radar._local_tasks import local_split
from pyterrier_radar.commands._collection import Collection, digest, load_task, open_collection
from pyterrier_radar.commands._measures import parse_measures, per_query
from pyterrier_radar.commands._runs import RunFolder
from pyterrier_radar.commands._systems import Settings, Systems, parse_systems
from pyterrier_radar.experiments._declarations import REWRITTEN, Experiment, Split
from pyterrier_radar.experiments._results import Cell
from radar_cli import note
from torch_radar.files import replacing
from torch_radar.paper import ORIGINAL
from torch_radar.templates import PLAIN

if TYPE_CHECKING:
    from pyterrier_radar._rating import RatingReranker

ANSWERS = "answers.sqlite"
"""Every answer of the language model, in the output folder."""


@dataclass(frozen=True)
class LanguageModelServer:
    """Which language model rates and rewrites, and where it is.

    Attributes:
        model: its name at the server.
        url: the server's base URL.
        api_key: where the server wants one.
        expected: whether a rating is the expectation over the probabilities of the six digits.
    """

    model: str
    url: str
    api_key: str | None = field(default=None, repr=False)
    expected: bool = False

    def rater(self, family: str, folder: Path) -> "RatingReranker":
        """Returns the transformer that rates with a family's prompt; answers are kept in the folder."""
        from pyterrier_radar._rating import RatingReranker

        return RatingReranker(
            self.model,
            url=self.url,
            family=family,
            expected=self.expected,
            cache=folder / ANSWERS,
            api_key=self.api_key,
            verbose=True,
        )


def run(
    experiment: Experiment,
    systems: Sequence[str],
    encoder: RadarBiEncoder,
    output: Path,
    *,
    queries: Sequence[str] = (ORIGINAL,),
    reranker: RadarReranker | None = None,
    llm: LanguageModelServer | None = None,
    data: Path | None = None,
    instruction: str = "auto",
    alpha: float | None = None,
    settings: Settings | None = None,
) -> list[Cell]:
    """Runs an experiment.

    Rankings, rewritten queries and the language model's answers are kept in the output folder as they are finished,
    indexes in the cache. Whatever is there, made of the same, is used again: a second run loads no model and makes no
    call, and one that was killed goes on with what was missing. A reranker and the language model that rates read the
    original queries, whatever form retrieved: the authors' reranking code does.

    Args:
        experiment: what to run.
        systems: of ``commands._systems.SYSTEMS``.
        encoder: the retriever; it gets each split's instruction, its weights are shared.
        output: the folder.
        queries: forms of the queries.
        reranker: for ``reranked``.
        llm: for ``rated``, and for the form ``rewritten``.
        data: a folder with the splits' files in place of ir_datasets; see :mod:`pyterrier_radar._local_tasks`.
        instruction: ``"auto"`` for each split's own, else one for all.
        alpha: weight of the dense ranking in the hybrid; each split's own where None.
        settings: depths, and which BM25; its alpha is not read.

    Returns:
        a cell for each split, form of the queries and system, in this order.

    Raises:
        ValueError: for systems, forms of the queries, measures or data that there aren't, before anything runs.
        FileNotFoundError: the folder lacks a split.
    """
    experiment.require_queries(queries)
    parse_systems(
        ",".join(systems),
        reranker=reranker.reranker.checkpoint.name if reranker and "reranked" in systems else None,
        llm=llm.model if llm else None,
    )
    if REWRITTEN in queries:
        _required(llm)
    for split in experiment.splits:
        parse_measures(" ".join(split.measures))
        open_split(split, data)
    settings = settings or Settings()
    cells = []
    for split in experiment.splits:
        collection = open_split(split, data)
        prompt = effective_instruction(split, instruction, encoder)
        for form in queries:
            note(f"{experiment.name}: {split.name}, {form} queries")
            task = load_task(collection, variant=None, exclude_self=False)
            if form == REWRITTEN:
                task = replace(task, topics=rewritten(task.topics, split, _required(llm), output))
            elif form != ORIGINAL:
                task = replace(task, topics=task.questions[["qid"]].merge(collection.topics(form), on="qid"))
            bench = Systems(
                collection,
                task,
                encoder.with_instruction(prompt),
                reranker,
                settings.with_alpha(split.alpha if alpha is None else alpha),
                RunFolder(output / "runs", f"{split.name}.{form}"),
                systems,
                _required(llm).rater(split.family, output) if "rated" in systems else None,
            )
            cells += [_cell(bench, split, form, system) for system in systems]
    return cells


def open_split(split: Split, data: Path | None) -> Collection:
    """Opens a split's collection: from the user's folder if there is one, else from ir_datasets.

    Raises:
        ValueError: ir_datasets doesn't have it, and no folder is named.
        FileNotFoundError: the folder lacks it.
    """
    if data is not None:
        return Collection(split.name, local_split(data, split.name), None, "keep")
    if split.dataset is None:
        raise ValueError(f"ir_datasets doesn't have {split.name}: name the folder with its files (--data)")
    return open_collection(split.dataset, empty_text="keep")


def rewritten(topics: pd.DataFrame, split: Split, llm: LanguageModelServer, output: Path) -> pd.DataFrame:
    """Returns the queries rewritten by the language model, from the output folder where that was done before."""
    from pyterrier_radar._llm import decides_answers
    from pyterrier_radar._reasoning import ReasoningQuery

    reasoning = ReasoningQuery(llm.model, url=llm.url, cache=output / ANSWERS, api_key=llm.api_key, verbose=True)
    made_of = digest(decides_answers(reasoning), list(topics.itertuples(index=False, name=None)))
    path = output / "queries" / f"{split.name}.{REWRITTEN}.{made_of[:10]}.jsonl"
    if not path.exists():
        frame = reasoning(topics)[["qid", "query", "query_0"]]
        is_left = frame["query"] == frame["query_0"]
        if is_left.all():
            raise ValueError(
                f"{llm.model} rewrote none of {len(frame)} queries of {split.name}: see the warnings above"
            )
        frame = frame[["qid", "query"]]
        if is_left.any():  # not kept as finished: the next run asks for these again, and for nothing else
            return frame
        with replacing(path) as aside:
            frame.to_json(aside, orient="records", lines=True, force_ascii=False)
    return read_queries(path)


def effective_instruction(split: Split, choice: str, encoder: RadarBiEncoder) -> str:
    """The split's own for ``"auto"``, but none for a checkpoint that reads plain texts: it was trained with none."""
    if choice != "auto":
        return choice
    return "" if encoder.encoder.checkpoint.template == PLAIN else split.instruction


def _required(llm: LanguageModelServer | None) -> LanguageModelServer:
    if llm is None:
        raise ValueError("this needs a language model: name one as its server does (--llm-model, --llm-url)")
    return llm


def _cell(bench: Systems, split: Split, form: str, system: str) -> Cell:
    ranking = bench.ranking(system)
    values = per_query(ranking.frame, bench.task.qrels, parse_measures(" ".join(split.measures)))
    values.columns = list(split.measures)  # as the split calls them, where ir_measures has another name
    per_topic = 1000 * ranking.seconds / len(bench.task.topics)
    return Cell(split, form, system, values, per_topic, ranking.reused, ranking.facts)


def describe(
    encoder: RadarBiEncoder, reranker: RadarReranker | None, llm: LanguageModelServer | None
) -> dict[str, Any]:
    """What ran, for the report."""
    return {
        "model": encoder.encoder.checkpoint.name,
        "model_note": encoder.encoder.checkpoint.note,
        "device": str(encoder.encoder.device),
        "dtype": str(encoder.encoder.dtype).removeprefix("torch."),
        "reranker": reranker.reranker.checkpoint.name if reranker else None,
        "language_model": llm.model if llm else None,
    }
