"""Views of a run: HTML pages that open offline, one of the run and one of each problem."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthesis.files import safe_name, write_text
from synthesis.summary import summarise
from synthesis.viewer.overview import Entry, overview
from synthesis.viewer.page import problem_page

__all__ = ["problem_page", "write_views"]

_SHOWN = 300


def write_views(
    records: Iterable[Mapping[str, Any]],
    folder: str | Path,
    *,
    samples: str | Path | None = None,
    title: str = "Synthesis",
    is_part: bool = False,
) -> Path:
    """Writes ``index.html`` and one page a problem, each self-contained; memory is one record's and the table's.

    Args:
        records: The store, or any records.
        folder: Where the pages go; pages of earlier calls are replaced, other files left alone.
        samples: The dataset's ``train.jsonl``: shown with the problems that its samples came of.
        title: The run's name.
        is_part: Whether these are some problems of a run: an ``index.html`` that is there stays as it is.

    Returns:
        The path of ``index.html``, of a part that of its first problem's page.

    Raises:
        ValueError: If there is no record.
        OSError: If a file cannot be read or written.
    """
    folder = Path(folder)
    made = _Samples(Path(samples)) if samples is not None else None
    entries = []
    for record in records:
        of_problem = made.of(record["problem_id"], record["configuration"]) if made else []
        # One problem may be there in several configurations.
        name = safe_name(f"{record['problem_id']}-{record['configuration']}")
        write_text(folder / "problems" / f"{name}.html", problem_page(record, of_problem))
        types = Counter(sample["query_type"] for sample in of_problem)
        entries.append(Entry(f"problems/{name}.html", summarise(record), record["problem"][:_SHOWN], types))
    if not entries:
        raise ValueError("there is no finished problem to show yet: run the synthesis first")
    index = folder / "index.html"
    if not (is_part and index.exists()):
        write_text(index, overview(title, entries))
    return folder / entries[0].address if is_part else index


class _Samples:
    """A dataset's samples by problem, read from the file when they are asked for."""

    def __init__(self, path: Path):
        self._path = path
        self._offsets: dict[tuple[str, str], list[int]] = {}
        with open(path, "rb") as file:
            offset = 0
            for line in file:
                provenance = json.loads(line)["provenance"]
                self._offsets.setdefault((provenance["problem"], provenance["configuration"]), []).append(offset)
                offset += len(line)

    def of(self, problem_id: str, configuration: str) -> list[dict[str, Any]]:
        return list(self._read(self._offsets.get((problem_id, configuration), [])))

    def _read(self, offsets: list[int]) -> Iterator[dict[str, Any]]:
        with open(self._path, "rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield json.loads(file.readline())
