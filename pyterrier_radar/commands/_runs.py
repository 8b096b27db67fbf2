"""A folder of finished runs: each system's ranking as a TREC run, beside it in JSON what it was made with."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_radar._trec import read_run, write_run
from pyterrier_radar.commands._collection import digest, slug
from torch_radar.files import replacing


@dataclass(frozen=True)
class Ranking:
    """What a system returned for all queries, and how long that took.

    Attributes:
        frame: ``qid``, ``docno``, ``score`` (float64) and ``rank`` (from 0).
        seconds: wall time for all queries, without loading models or building indexes.
        reused: whether it was read from an earlier run.
        facts: what else is worth knowing of it: counts of ratings, tokens paid for.
    """

    frame: pd.DataFrame
    seconds: float
    reused: bool = False
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """Where finished runs are kept, found again by their exact configuration; without a folder, nowhere."""

    folder: Path | None
    collection: str

    def find(self, system: str, configuration: dict[str, Any]) -> Ranking | None:
        """Returns the run of a system with exactly this configuration, where there is one."""
        run, record = self._paths(system, configuration)
        if record is None or not record.exists():
            return None
        try:
            kept = json.loads(record.read_text("utf-8"))
            if kept["configuration"] != json.loads(json.dumps(configuration)):
                return None
            if kept.get("facts", {}).get("missing"):
                return None  # so that what is missing is asked for again, and nothing else
            return Ranking(read_run(run), float(kept["seconds"]), reused=True, facts=kept.get("facts", {}))
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None  # damaged or half removed: the system runs again and its files are replaced

    def keep(self, system: str, configuration: dict[str, Any], ranking: Ranking) -> None:
        """Writes the run, then its record: a run without a record was not finished."""
        run, record = self._paths(system, configuration)
        if record is None:
            return
        write_run(ranking.frame, run, name=f"radar-{system}")
        content = {
            "system": system,
            "seconds": ranking.seconds,
            "facts": ranking.facts,
            "configuration": configuration,
        }
        with replacing(record) as aside:
            aside.write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    def _paths(self, system: str, configuration: dict[str, Any]) -> tuple[Path, Path | None]:
        if self.folder is None:
            return Path(), None
        name = f"{slug(self.collection)}.{system}.{digest(json.dumps(configuration, sort_keys=True))[:10]}"
        return self.folder / f"{name}.run.gz", self.folder / f"{name}.json"
