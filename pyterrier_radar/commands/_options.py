"""The options that several subcommands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

EmptyText = Literal["error", "skip", "keep"]
StoreDtype = Literal["float16", "float32"]
Engine = Literal["pisa", "lucene", "terrier"]
SignificanceTest = Literal["t-test", "randomisation"]
Correction = Literal["holm", "bonferroni"]
RetrievalScores = Literal["raw", "zscore", "minmax"]

Dataset = Annotated[
    str | None, typer.Argument(help="An ir_datasets id, or radar:theorems.", metavar="DATASET", show_default=False)
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", help="An ir_datasets id, or radar:theorems.", show_default=False)
]
Docs = Annotated[
    Path | None,
    typer.Option(help="Documents: JSONL or TSV with docno and text, plain or gzip.", show_default=False),
]
Queries = Annotated[
    Path | None,
    typer.Option(help="Queries: JSONL, TSV or TREC topics, plain or gzip.", show_default=False),
]
Qrels = Annotated[
    Path | None,
    typer.Option(help="Judgements: TREC qrels, TSV, or JSONL queries with positives.", show_default=False),
]
TextField = Annotated[
    str | None,
    typer.Option(help="Field to read as a document's text; else text, title in front.", show_default=False),
]
EmptyTextOption = Annotated[EmptyText, typer.Option("--empty-text", help="What to do with documents without text.")]
TopicsVariant = Annotated[
    str | None,
    typer.Option(help="Which form of the queries, such as gpt4_reason (BRIGHT).", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(help="Retriever: a Raderspace name or a folder; else a small default.", show_default=False),
]
Device = Annotated[
    str | None, typer.Option(help="cuda, cuda:1, mps or cpu; else the best one here.", show_default=False)
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; else what suits the device.", show_default=False)
]
Instruction = Annotated[
    str,
    typer.Option(help="Text inside the query prefix; auto: the benchmark's own, where it has one."),
]
ExcludeSelf = Annotated[
    bool, typer.Option("--exclude-self", help="Leave the document whose docno is the qid out of its ranking.")
]
