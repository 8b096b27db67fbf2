"""``radar search``: searches a dense index."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyterrier_radar.commands import _options as option
from radar_cli import Debug, Json, framed, note, render

if TYPE_CHECKING:
    import pandas as pd


@framed
def search(
    index: Annotated[Path, typer.Option(help="Folder of the index.", show_default=False)],
    query: Annotated[str | None, typer.Option(help="One query, as text.", show_default=False)] = None,
    queries: option.Queries = None,
    dataset: option.DatasetOption = None,
    topics_variant: option.TopicsVariant = None,
    num_results: Annotated[int, typer.Option(min=1, help="Documents for each query.")] = 10,
    exclude: Annotated[
        Path | None,
        typer.Option(help="Lines 'qid docno' of documents to leave out, or qrels of -100.", show_default=False),
    ] = None,
    exclude_self: option.ExcludeSelf = False,
    run: Annotated[Path | None, typer.Option(help="TREC run to write instead.", show_default=False)] = None,
    model: option.Model = None,
    instruction: option.Instruction = "auto",
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Search an index with one query, a file of queries, or those of a dataset."""
    import pandas as pd

    from pyterrier_radar._trec import read_exclusions, write_run
    from pyterrier_radar.commands._collection import open_collection
    from pyterrier_radar.commands._dense import reopen_dense_index

    if (query is not None) + (queries is not None) + (dataset is not None) != 1:
        raise ValueError("say what to search for: one of --query, --queries and --dataset")
    if query is not None:
        topics = pd.DataFrame({"qid": ["query"], "query": [query]}, dtype=str)
    else:
        topics = open_collection(dataset, queries=queries).topics(topics_variant)
    excluded = read_exclusions(exclude) if exclude else {}
    if exclude_self:
        excluded = {qid: [*excluded.get(qid, []), qid] for qid in topics["qid"]}
    found = reopen_dense_index(index, model, instruction=instruction, dataset=dataset, device=device, dtype=dtype)
    results = found.retriever(num_results=num_results, exclude=excluded)(topics)
    if run is not None:
        write_run(results, run, name="radar-dense")
        note(f"{len(results)} documents for {len(topics)} queries: {run}")
    if json_:
        return json.dumps(_as_json(results, topics), indent=2, ensure_ascii=False)
    return "" if run is not None else _as_text(results, topics)


def _as_json(results: "pd.DataFrame", topics: "pd.DataFrame") -> list[dict[str, object]]:
    by_query = dict(iter(results.groupby("qid", sort=False)))
    return [
        {
            "qid": qid,
            "query": query,
            "results": [
                {"rank": int(rank) + 1, "docno": docno, "score": float(score)}
                for rank, docno, score in by_query[qid][["rank", "docno", "score"]].itertuples(index=False)
            ]
            if qid in by_query
            else [],
        }
        for qid, query in zip(topics["qid"], topics["query"], strict=True)
    ]


def _as_text(results: "pd.DataFrame", topics: "pd.DataFrame") -> str:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    many = len(topics) > 1
    for name in ("qid", "rank", "score", "docno")[0 if many else 1 :]:
        table.add_column(name, justify="right" if name in ("rank", "score") else "left")
    for qid, rank, score, docno in results[["qid", "rank", "score", "docno"]].itertuples(index=False):
        table.add_row(*([qid] if many else []), str(rank + 1), f"{score:.4f}", docno)
    return render(table)
