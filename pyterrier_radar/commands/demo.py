"""``radar demo``: the main job on the package's own collection, with a table, a figure and a report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyterrier_radar.commands import _options as option
from pyterrier_radar.commands._summary import as_text, labels, summarise, values_of
from pyterrier_radar.commands.evaluate import MEASURES
from radar_cli import Debug, Json, framed
from torch_radar.files import replacing

if TYPE_CHECKING:
    import pandas as pd

    from pyterrier_radar.commands._report import Problem
    from pyterrier_radar.commands._systems import Systems

COLLECTION = "radar:theorems"
SYSTEMS = ("bm25", "dense", "hybrid", "scored")
SHOWN = 5
CAVEAT = (
    "The problems were worded with the figures of BM25 and all-MiniLM-L6-v2 in view: these show what the parts do, "
    "not how such systems compare elsewhere."
)


@framed
def demo(
    model: option.Model = None,
    out: Annotated[Path, typer.Option(help="Folder for results, runs, figure and report.")] = Path("radar-demo"),
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Compare BM25 with RaDeR on problems that need a theorem without naming it.

    Writes results.json, TREC runs, figure.png and report.html.
    """
    from pyterrier_radar import RadarBiEncoder
    from pyterrier_radar.commands import _figure, _report
    from pyterrier_radar.commands._collection import load_task, open_collection
    from pyterrier_radar.commands._measures import parse_measures
    from pyterrier_radar.commands._runs import RunFolder
    from pyterrier_radar.commands._systems import Settings, Systems
    from torch_radar.checkpoints import SMALL_DEFAULT

    encoder = RadarBiEncoder(model or SMALL_DEFAULT, device=device, dtype=dtype, verbose=True)
    collection = open_collection(COLLECTION)
    task = load_task(collection, variant=None, exclude_self=False)
    out.mkdir(parents=True, exist_ok=True)
    bench = Systems(collection, task, encoder, None, Settings(), RunFolder(out / "runs", collection.name), SYSTEMS)
    measures = parse_measures(MEASURES)
    values = {system: values_of(bench, system, measures) for system in SYSTEMS}
    report = summarise(bench, values)
    documents = {d["docno"]: d for d in collection.dataset.get_corpus_iter(verbose=False)}
    report |= {"documents": len(documents), "caveat": CAVEAT}
    names = labels(report)
    title = f"{COLLECTION}, {report['queries']} problems, {len(documents)} statements; model: {report['model']}"
    figure = _figure.draw(values, names, title)
    page = _report.page(report, names, figure, _problems(bench, values, names, documents))
    results = json.dumps(report, indent=2) + "\n"
    files = {"results.json": results.encode(), "figure.png": figure, "report.html": page.encode()}
    for name, content in files.items():
        with replacing(out / name) as aside:
            aside.write_bytes(content)
    if json_:
        return json.dumps(report, indent=2)
    places = f"report: {out / 'report.html'}\nfigure: {out / 'figure.png'}\nruns:   {out / 'runs'}"
    return f"{as_text(report)}\n{CAVEAT}\n\n{places}"


def _problems(
    bench: "Systems", values: dict[str, "pd.DataFrame"], names: dict[str, str], documents: dict[str, dict[str, str]]
) -> list["Problem"]:
    """Chooses three queries by how the dense system compares with BM25: most gained, middle, most lost."""
    from pyterrier_radar.commands._report import Hit, Problem

    measure = values["dense"].columns[0]
    gain = (values["dense"][measure] - values["bm25"][measure]).sort_values(ascending=False, kind="stable")
    solved = gain[(values["dense"][measure] > 0) & (values["bm25"][measure] > 0)]
    middle = (solved if len(solved) else gain).index
    chosen = {
        gain.index[0]: f"Where {names['dense']} gains most on BM25",
        middle[len(middle) // 2]: "A problem in the middle",
        gain.index[-1]: "Where BM25 does better",
    }
    queries = bench.task.topics.set_index("qid")["query"]
    problems = []
    for qid, why in chosen.items():
        judged = bench.task.qrels[bench.task.qrels["qid"] == qid]
        grades = {docno: label for docno, label in zip(judged["docno"], judged["label"], strict=True) if label > 0}
        top = {system: _top(bench, system, qid) for system in ("bm25", "dense")}
        sides = [
            (names[system], [Hit(*_shown(documents[docno]), grades.get(docno, 0)) for docno in docnos])
            for system, docnos in top.items()
        ]
        missed = grades.keys() - {docno for docnos in top.values() for docno in docnos}
        problems.append(Problem(why, qid, queries[qid], sides, sorted(_shown(documents[docno])[0] for docno in missed)))
    return problems


def _top(bench: "Systems", system: str, qid: str) -> list[str]:
    frame = bench.ranking(system).frame
    return frame[(frame["qid"] == qid) & (frame["rank"] < SHOWN)].sort_values("rank")["docno"].tolist()


def _shown(document: dict[str, Any]) -> tuple[str, str]:
    """A document's title, and its text without the title in front."""
    title = document["title"]
    return title, document["text"].removeprefix(title).strip()
