"""``radar rerank``: orders the documents of a run anew."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from pyterrier_radar.commands import _options as option
from radar_cli import Debug, Json, framed, note

Kind = Literal["scorer", "reranker"]


@framed
def rerank(
    run_in: Annotated[Path, typer.Option(help="TREC run to rerank, plain or gzip.", show_default=False)],
    run: Annotated[Path, typer.Option(help="TREC run to write; gzip where it ends in .gz.", show_default=False)],
    dataset: option.DatasetOption = None,
    docs: option.Docs = None,
    queries: option.Queries = None,
    topics_variant: option.TopicsVariant = None,
    text_field: option.TextField = None,
    empty_text: option.EmptyTextOption = "keep",
    model: option.Model = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Cosine of a retriever, or logit of a reranker; else what the model is.", show_default=False),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Documents of each query to rerank; the rest is dropped.")] = 100,
    instruction: option.Instruction = "auto",
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Rerank a TREC run with a RaDeR retriever or reranker."""
    from pyterrier_radar import RadarBiEncoder, RadarReranker
    from pyterrier_radar._trec import read_run, write_run
    from pyterrier_radar.commands._collection import open_collection, resolve_instruction
    from torch_radar.checkpoints import SMALL_DEFAULT, resolve

    if dataset is None and (docs is None or queries is None):
        raise ValueError("reranking needs the texts of queries and documents: give --dataset, or --queries and --docs")
    checkpoint = resolve(model or SMALL_DEFAULT)
    actual = "scorer" if checkpoint.kind == "retriever" else "reranker"
    if kind is not None and kind != actual:
        raise ValueError(f"{checkpoint.name} is a {checkpoint.kind}: leave --kind out, or name another model")
    if actual == "reranker" and instruction not in ("", "auto"):
        raise ValueError("an instruction belongs to retrievers; the form of a reranker's pair is in its checkpoint")
    collection = open_collection(dataset, docs, queries, text_field=text_field, empty_text=empty_text)
    topics, candidates = collection.topics(topics_variant), read_run(run_in)
    if unknown := set(candidates["qid"]) - set(topics["qid"]):
        raise ValueError(f"{run_in} ranks for query {min(unknown)!r}, which {collection.name} does not have")
    candidates = candidates[candidates["rank"] < depth].merge(topics, on="qid")
    if actual == "scorer":
        instruction = resolve_instruction(instruction, dataset, checkpoint)
        encoder = RadarBiEncoder(checkpoint, instruction=instruction, device=device, dtype=dtype, verbose=True)
        scorer = encoder.text_scorer()
    else:
        scorer = RadarReranker(checkpoint, device=device, dtype=dtype, verbose=True)
    note(f"model: {checkpoint.name} ({actual})")
    ranked = scorer(collection.with_texts(candidates)).sort_values(["qid", "rank"], kind="stable")
    write_run(ranked, run, name=f"radar-{actual}")
    counts = {"run": str(run), "model": checkpoint.name, "queries": int(ranked["qid"].nunique()), "pairs": len(ranked)}
    if json_:
        return json.dumps(counts, indent=2)
    return f"{counts['pairs']} pairs of {counts['queries']} queries reranked by {checkpoint.name}: {run}"
