"""``radar evaluate``: measures systems on a test collection."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pyterrier_radar.commands import _options as option
from pyterrier_radar.commands._summary import as_text, summarise, values_of
from radar_cli import Debug, Json, framed

MEASURES = "nDCG@10 R@100"
EXPERIMENT, LLM, RUN_FILES = "The paper's experiments", "Language model", "Run files"


@framed
def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="bright, bright-long, rar-b, ms-marco or theoremqa-qa: the paper's experiments; else an ir_datasets "
            "id, or radar:theorems.",
            metavar="DATASET",
            show_default=False,
        ),
    ] = None,
    docs: option.Docs = None,
    queries: Annotated[
        str | None,
        typer.Option(
            help="Queries: JSONL, TSV or TREC topics, plain or gzip. For an experiment, forms of the queries joined by "
            "commas: original, gpt4_reason …, or rewritten (by --llm-model).",
            show_default=False,
        ),
    ] = None,
    qrels: option.Qrels = None,
    topics_variant: option.TopicsVariant = None,
    text_field: option.TextField = None,
    empty_text: option.EmptyTextOption = "error",
    exclude_self: option.ExcludeSelf = False,
    systems: Annotated[
        str | None,
        typer.Option(
            help="Of bm25, dense, hybrid, scored, reranked, rated, joined by commas; else the first four, and the last "
            "ones where a reranker or a language model is named.",
            show_default=False,
        ),
    ] = None,
    measures: Annotated[
        str | None,
        typer.Option(
            help=f"Names of ir_measures, joined by blanks; else the experiment's own, or {MEASURES}.",
            show_default=False,
        ),
    ] = None,
    model: option.Model = None,
    reranker: Annotated[str | None, typer.Option(help="Reranker: a Raderspace name or a folder.")] = None,
    instruction: option.Instruction = "auto",
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Weight of the dense ranking in the hybrid, 0 to 1; else the split's own, or 0.8.",
            show_default=False,
        ),
    ] = None,
    bm25: Annotated[
        option.Engine, typer.Option(help="Whose BM25: Lucene's has BRIGHT's analysis (extra pyserini).")
    ] = "pisa",
    bm25_depth: Annotated[int, typer.Option(min=1, help="Documents of BM25 to score or rerank.")] = 100,
    num_results: Annotated[int, typer.Option(min=1, help="Documents in a ranking.")] = 1000,
    index: Annotated[
        Path | None, typer.Option(help="Folder of the dense index; else one in the cache.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder for TREC runs; finished ones are used again.", show_default=False)
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            help="Splits of the experiment, joined by commas; else all.", show_default=False, rich_help_panel=EXPERIMENT
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the splits' files, in place of ir_datasets; for theoremqa-qa, with the questions.",
            show_default=False,
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for all that the experiment makes; else radar- and its name.",
            show_default=False,
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="System that the others are tested against; else the first.",
            show_default=False,
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    test: Annotated[option.SignificanceTest, typer.Option(help="Paired test.", rich_help_panel=EXPERIMENT)] = "t-test",
    correction: Annotated[
        option.Correction, typer.Option(help="Correction for the number of comparisons.", rich_help_panel=EXPERIMENT)
    ] = "holm",
    llm_model: Annotated[
        str | None,
        typer.Option(
            help="Language model that rates, rewrites and answers, by its server's name.",
            show_default=False,
            rich_help_panel=LLM,
        ),
    ] = None,
    llm_url: Annotated[
        str, typer.Option(help="Base URL of its OpenAI-protocol server.", rich_help_panel=LLM)
    ] = "http://localhost:8000/v1",
    llm_key: Annotated[
        str | None,
        typer.Option(help="Key for the server.", envvar="RADAR_LLM_KEY", show_default=False, rich_help_panel=LLM),
    ] = None,
    llm_expected: Annotated[
        bool,
        typer.Option(
            "--llm-expected", help="Take the expectation over the digits' probabilities.", rich_help_panel=LLM
        ),
    ] = False,
    rating_depth: Annotated[
        int, typer.Option(min=1, help="Documents of the hybrid to rate.", rich_help_panel=LLM)
    ] = 100,
    rating_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of the rating.", rich_help_panel=LLM)
    ] = 0.5,
    answer_documents: Annotated[
        int, typer.Option(min=1, help="Documents read for a question (theoremqa-qa).", rich_help_panel=LLM)
    ] = 5,
    retrieval_run: Annotated[
        Path | None,
        typer.Option(
            help="A finished run to measure, TREC or JSON {qid: {docno: score}}, plain or gzip; no model runs.",
            show_default=False,
            rich_help_panel=RUN_FILES,
        ),
    ] = None,
    bm25_run: Annotated[
        Path | None,
        typer.Option(help="A run of BM25, for the hybrid of both.", show_default=False, rich_help_panel=RUN_FILES),
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(
            help="Ratings / 5 of its best documents, in the same form, for the fusion of both.",
            show_default=False,
            rich_help_panel=RUN_FILES,
        ),
    ] = None,
    retrieval_scores: Annotated[
        option.RetrievalScores,
        typer.Option(
            help="How the retrieval's scores meet the ratings; raw is the paper's.", rich_help_panel=RUN_FILES
        ),
    ] = "raw",
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Measure BM25, RaDeR and their combinations on a test collection, or run one of the paper's experiments.

    The collection is an ir_datasets id, radar:theorems, or files. Documents judged -100 (BRIGHT's excluded ones)
    are removed from every ranking. Indexes are built once and kept in the cache.

    An experiment (radar evaluate bright --queries original,gpt4_reason --output runs) covers all its splits, and
    writes runs, values per query, tables beside the paper's rows, figures and paired significance tests. Every stage
    is kept: a run that was stopped goes on where it was.

    theoremqa-qa has a language model answer questions, without retrieval and with the best documents of each system.

    Run files (radar evaluate --retrieval-run dense.json.gz --ratings ratings.json.gz --qrels qrels.txt) are measured
    as they are, with their hybrid and their fusion.
    """
    from pyterrier_radar import RadarBiEncoder, RadarReranker
    from pyterrier_radar.commands._collection import cache_folder, load_task, open_collection, resolve_instruction
    from pyterrier_radar.commands._measures import parse_measures
    from pyterrier_radar.commands._runs import RunFolder
    from pyterrier_radar.commands._systems import Settings, Systems, parse_systems
    from pyterrier_radar.experiments import EXPERIMENTS, THEOREMQA_QA, LanguageModelServer, family_for_dataset
    from torch_radar.checkpoints import SMALL_DEFAULT, resolve

    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"--alpha is the weight of the dense ranking, from 0 to 1, not {alpha}")
    weight = 0.8 if alpha is None else alpha
    if retrieval_run is not None:
        from pyterrier_radar._trec import read_qrels
        from pyterrier_radar.commands._run_files import evaluate_run_files, run_files_as_text

        unread = {"docs": docs, "queries": queries, "systems": systems, "model": model, "reranker": reranker}
        unread |= {"splits": splits, "data": data, "output": output, "index": index, "llm_model": llm_model}
        for name, value in unread.items():
            if value is not None:
                raise ValueError(f"--{name.replace('_', '-')} has no use beside --retrieval-run: leave it out")
        report = evaluate_run_files(
            read_qrels(qrels) if qrels else open_collection(dataset).qrels(),
            parse_measures(measures or MEASURES),
            retrieval_run,
            bm25=bm25_run,
            ratings=ratings,
            alpha=weight,
            depth=rating_depth,
            weight=rating_weight,
            scores=retrieval_scores,
            keep=run,
        )
        return json.dumps(report, indent=2) if json_ else run_files_as_text(report)
    if ratings is not None or bm25_run is not None:
        raise ValueError("--ratings and --bm25-run go with a run: name it (--retrieval-run)")
    is_answering = dataset == THEOREMQA_QA.name
    if systems is None and not is_answering:
        systems = "bm25,dense,hybrid,scored" + (",reranked" if reranker else "") + (",rated" if llm_model else "")
    if is_answering:
        from pyterrier_radar.commands._questions import answering_systems, evaluate_questions

        names = answering_systems(systems, reranker=reranker, llm=llm_model)
    else:
        names = parse_systems(systems or "", reranker=reranker, llm=llm_model)
    checkpoint = resolve(model or SMALL_DEFAULT)
    rerank = RadarReranker(reranker, device=device, dtype=dtype, verbose=True) if reranker else None
    llm = LanguageModelServer(llm_model, llm_url, llm_key, llm_expected) if llm_model else None
    settings = Settings(
        alpha=weight,
        depth=bm25_depth,
        num_results=num_results,
        index=index,
        bm25=bm25,
        rating_depth=rating_depth,
        rating_weight=rating_weight,
    )
    # what the collections of an experiment don't leave open
    reading = {"text_field": text_field, "exclude_self": exclude_self or None}
    reading["empty_text"] = None if empty_text == "error" else empty_text
    shared: dict[str, Any] = {
        "reranker": rerank,
        "llm": llm,
        "output": output or Path(f"radar-{dataset}"),
        "data": data,
        "instruction": instruction,
        "alpha": alpha,
        "settings": settings,
        "baseline": baseline,
        "test": test,
        "correction": correction,
        "as_json": json_,
    }
    if is_answering:
        fixed = {"docs": docs, "queries": queries, "qrels": qrels, "topics_variant": topics_variant}
        _refuse(THEOREMQA_QA.name, **fixed, splits=splits, measures=measures, run=run, index=index, **reading)
        encoder = RadarBiEncoder(checkpoint, device=device, dtype=dtype, verbose=True)
        return evaluate_questions(names, encoder, documents=answer_documents, **shared)
    if dataset in EXPERIMENTS:
        from pyterrier_radar.commands._experiment import evaluate_experiment

        _refuse(dataset, docs=docs, qrels=qrels, topics_variant=topics_variant, run=run, index=index, **reading)
        encoder = RadarBiEncoder(checkpoint, device=device, dtype=dtype, verbose=True)
        return evaluate_experiment(dataset, names, encoder, queries=queries, splits=splits, measures=measures, **shared)
    if splits or data or output:
        experiments = ", ".join([*EXPERIMENTS, THEOREMQA_QA.name])
        raise ValueError(f"--splits, --data and --output belong to an experiment: {experiments}")
    files = Path(queries) if queries else None
    collection = open_collection(dataset, docs, files, qrels, text_field=text_field, empty_text=empty_text)
    wanted = parse_measures(measures or MEASURES)
    instruction = resolve_instruction(instruction, dataset, checkpoint)
    encoder = RadarBiEncoder(checkpoint, instruction=instruction, device=device, dtype=dtype, verbose=True)
    task = load_task(collection, variant=topics_variant, exclude_self=exclude_self)
    rater = llm.rater(family_for_dataset(dataset or ""), cache_folder(collection, "ratings")) if llm else None
    bench = Systems(collection, task, encoder, rerank, settings, RunFolder(run, collection.name), names, rater)
    report = summarise(bench, {name: values_of(bench, name, wanted) for name in names})
    return json.dumps(report, indent=2) if json_ else as_text(report)


def _refuse(experiment: str, **options: object) -> None:
    """Refuses options that an experiment decides itself.

    Raises:
        ValueError: it names the first.
    """
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"{experiment} is an experiment and decides --{name.replace('_', '-')} itself: leave it out"
            )
