"""From a run's folder to its dataset: the parts that making samples needs, as the run had them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from radar_llm import CheckedLate
from synthesis.run import (
    THEOREMS_FOLDER,
    finish,
    locked,
    make_theorems,
    open_generator,
    read_theorems,
    requiring_store,
)
from synthesis.samples import make_samples
from synthesis.settings import Settings, SettingsError


def make_dataset(
    folder: Path,
    output: Path,
    settings: Settings,
    *,
    against: Sequence[Path] = (),
    about: Mapping[str, str] | None = None,
    api_key: str | None = None,
) -> dict[str, Any]:
    """Makes the samples of a run's finished problems.

    Args:
        folder: The run's folder.
        output: The dataset's folder.
        settings: Those of the run, perhaps with other ``samples``.
        against: Files of evaluation queries to leave out.
        about: What the data card says of where the data comes from.
        api_key: For servers that want one.

    Returns:
        See :func:`make_samples`.

    Raises:
        ValueError: See :func:`make_samples`; also if the settings name no corpus.
        ServerError: If the language model cannot be asked.
    """
    from synthesis.decontaminate import EvaluationQueries

    if settings.corpus is None:
        raise SettingsError(f"the settings of {folder} name no corpus: give it by --set corpus=FILE")
    queries = EvaluationQueries.from_files(against) if against else None
    texts = read_theorems(settings.corpus)
    mining = settings.retriever if settings.retriever.kind != "bm25" else replace(settings.retriever, kind="encoder")
    with locked(folder), requiring_store(folder) as store:
        bm25 = make_theorems(replace(settings.retriever, kind="bm25"), texts, folder / THEOREMS_FOLDER)
        dense = make_theorems(mining, texts, folder / THEOREMS_FOLDER, api_key)

        async def go() -> dict[str, Any]:
            async with open_generator(settings, folder, api_key) as generator:
                with tqdm(total=len(store), desc="samples", unit=" problems", file=sys.stderr) as bar:
                    return await make_samples(
                        store,
                        CheckedLate(generator),
                        bm25,
                        dense,
                        output,
                        settings=settings.samples,
                        seed=settings.seed,
                        against=queries,
                        about=about,
                        progress=bar.update,
                    )

        return finish(go)
