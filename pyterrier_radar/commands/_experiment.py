"""``radar evaluate`` on one of the paper's experiments."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyterrier_radar import RadarBiEncoder, RadarReranker
from pyterrier_radar.commands._bm25 import NAMES
from pyterrier_radar.commands._measures import parse_measures
from pyterrier_radar.commands._options import Correction, SignificanceTest
from pyterrier_radar.commands._systems import Settings
from pyterrier_radar.experiments import EXPERIMENTS, LanguageModelServer, Results, compare, run, write
from pyterrier_radar.experiments._declarations import Experiment
from pyterrier_radar.experiments._report import describe as in_words
from pyterrier_radar.experiments._results import Cell
from pyterrier_radar.experiments._runner import describe
from pyterrier_radar.experiments._tables import as_markdown, significance_markdown, tables
from torch_radar.checkpoints import MINILM, SMALL_DEFAULT

CORRECTIONS = {"holm": "Holm's", "bonferroni": "Bonferroni's"}


def evaluate_experiment(
    name: str,
    systems: list[str],
    encoder: RadarBiEncoder,
    reranker: RadarReranker | None,
    llm: LanguageModelServer | None,
    output: Path,
    *,
    queries: str | None,
    splits: str | None,
    measures: str | None,
    data: Path | None,
    instruction: str,
    alpha: float | None,
    settings: Settings,
    baseline: str | None,
    test: SignificanceTest,
    correction: Correction,
    as_json: bool,
) -> str:
    """Runs an experiment, writes its files, and returns what the command prints."""
    whole = EXPERIMENTS[name]
    experiment = whole.select(_names(splits))
    if measures:
        experiment = _measured_by(experiment, measures)
    baseline = baseline or systems[0]
    if baseline not in systems:
        raise ValueError(f"--baseline {baseline} is none of the systems: add it to --systems")
    cells = run(
        experiment,
        systems,
        encoder,
        output,
        queries=_names(queries) or ["original"],
        reranker=reranker,
        llm=llm,
        data=data,
        instruction=instruction,
        alpha=alpha,
        settings=settings,
    )
    facts = describe(encoder, reranker, llm) | {
        "bm25": NAMES[settings.bm25],
        "instruction": instruction,
        "alpha": alpha,
        "data": str(data) if data else "ir_datasets",
        "is_whole": len(experiment.splits) == len(whole.splits),
    }
    named = labels(encoder, settings, alpha)
    return finish(experiment, cells, named, facts, output, baseline, test, correction, as_json=as_json)


def finish(
    experiment: Experiment,
    cells: list[Cell],
    named: dict[str, str],
    facts: dict[str, Any],
    output: Path,
    baseline: str,
    test: SignificanceTest,
    correction: Correction,
    *,
    as_json: bool,
) -> str:
    """Compares the cells, writes the files of the experiment, and returns what the command prints."""
    comparisons = compare(cells, baseline, test=test, correction=correction)
    words = f"paired two-sided {test}, {CORRECTIONS[correction]} correction for {len(comparisons)} comparisons"
    results = Results(experiment, cells, named, facts, comparisons, words)
    files = write(results, output)
    if as_json:
        return json.dumps(results.as_dict(), indent=2)
    parts = [as_markdown(tables(results)[0]), significance_markdown(results), in_words(results) + "\n"]
    return "\n".join(part for part in parts if part) + f"\nfiles: {', '.join(path.name for path in files)} in {output}"


def labels(encoder: RadarBiEncoder, settings: Settings, alpha: float | None) -> dict[str, str]:
    """What each system is, in words; what is no RaDeR checkpoint is not called one."""
    name = encoder.encoder.checkpoint.name
    model = name if name in (MINILM.name, SMALL_DEFAULT.name) else "RaDeR"
    engine = NAMES[settings.bm25]
    weight = "the split's α" if alpha is None else f"α {alpha:g}"
    return {
        "bm25": f"BM25 ({engine})",
        "dense": f"{model} dense",
        "hybrid": f"{model} + BM25 ({engine}), {weight}",
        "scored": f"BM25 ({engine}) % {settings.depth} >> {model} scoring",
        "reranked": f"BM25 ({engine}) % {settings.depth} >> RaDeR reranker",
        "rated": f"hybrid % {settings.rating_depth} + {settings.rating_weight:g} rating",
    }


def _names(joined: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (joined or "").split(",") if name.strip()))


def _measured_by(experiment: Experiment, measures: str) -> Experiment:
    names = tuple(str(measure) for measure in parse_measures(measures))
    return replace(experiment, splits=tuple(replace(split, measures=names) for split in experiment.splits))
