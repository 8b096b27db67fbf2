"""What MTEB's results repository takes: a tree of results, the rules it is checked by, and what is left to people.

The rules are those of the repository's own tests and checks: one folder a model and revision, with
``model_meta.json`` of the same name and revision; results that mteb can read, made by mteb 2; ``run_settings.jsonl``
covering every split and subset; no file above 10 MiB; a model that mteb's own registry knows.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import mteb
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult
from packaging.version import InvalidVersion, Version

from mteb_radar.facts import COMMIT, METAS
from mteb_radar.results import META_FILE, ModelResults

LARGEST_BYTES = int(9.5 * 2**20)
"""Their limit is 10 MiB; this leaves headroom, as their own tool does."""
SETTINGS_FILE = "run_settings.jsonl"
_MTEB = Version("2.0.0")
_REPOSITORY = "https://github.com/embeddings-benchmark/results"


@dataclass(frozen=True)
class Submission:
    """A tree for the results repository.

    Attributes:
        folder: ``results/<model>/<revision>`` in it.
        files: Names of the files there.
        left_out: Tasks that mteb lacks, such as BRIGHT's with rewritten queries.
        left_to_do: What a person must still do or decide.
    """

    folder: Path
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    left_to_do: tuple[str, ...]


def problems(results: ModelResults) -> list[str]:
    """Returns everything that the results repository would refuse, each with its remedy; an empty list if nothing."""
    found = []
    meta = json.loads((results.folder / META_FILE).read_text(encoding="utf-8"))
    if results.is_experiment or meta.get("experiment_kwargs"):
        found.append(f"{results.name} ran with settings of its own: submit a run with the checkpoint's own settings")
    elif results.folder.parent.name != str(meta.get("name")).replace("/", "__").replace(" ", "_"):
        found.append(f"{results.folder.parent.name} is not the folder of the model {meta.get('name')!r} in {META_FILE}")
    if not COMMIT.fullmatch(results.revision):
        found.append(
            f"the revision {results.revision!r} is no commit: run the checkpoint from the hub, or a copy of it with "
            "--revision and the commit it was copied at"
        )
    if results.name not in METAS and results.name not in _registry():
        found.append(
            f"{results.name} is neither in mteb's registry nor in mteb_radar/models.py: add its metadata first"
        )
    covered = _covered(results.folder / SETTINGS_FILE)
    unknown = _unknown_tasks(results)
    if len(unknown) == len(results.tasks):
        found.append(f"mteb has none of these tasks: {', '.join(unknown)}")
    for name in sorted(results.tasks.keys() - unknown):
        found += _task_problems(name, results.tasks[name], covered)
    for path in sorted(results.folder.iterdir()):
        if path.stem not in unknown and path.is_file() and path.stat().st_size > LARGEST_BYTES:
            found.append(f"{path.name} has {path.stat().st_size / 2**20:.1f} MiB, and 10 are allowed: split its task")
    return found


def prepare(results: ModelResults, output: Path) -> Submission:
    """Writes the tree of a submission, if the results repository would take it.

    Tasks that mteb lacks are left out.

    Args:
        results: From :func:`mteb_radar.results.read_results`.
        output: A folder; ``results/<model>/<revision>`` is written in it, whole or not at all.

    Raises:
        ValueError: The results break a rule (the message lists every one), or the place is taken.
    """
    if wrong := problems(results):
        raise ValueError(f"{results.folder} would be refused:\n  " + "\n  ".join(wrong))
    target = output / "results" / results.folder.parent.name / results.revision
    if target.exists():
        raise ValueError(f"{target} is there already: choose another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    aside.mkdir()
    left_out = _unknown_tasks(results)
    try:
        for path in sorted(results.folder.glob("*.json*")):
            if path.name == META_FILE:
                (aside / path.name).write_text(json.dumps(_public(path), indent=4), encoding="utf-8")
            elif path.name == SETTINGS_FILE:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                kept = [line for line in lines if line.strip() and json.loads(line)["task"] not in left_out]
                (aside / path.name).write_text("".join(kept), encoding="utf-8")
            elif path.stem not in left_out:
                shutil.copyfile(path, aside / path.name)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    files = tuple(sorted(path.name for path in target.iterdir()))
    return Submission(target, files, tuple(left_out), tuple(_left(results)))


def _unknown_tasks(results: ModelResults) -> list[str]:
    return sorted(name for name in results.tasks if not _has_task(name))


def _has_task(name: str) -> bool:
    try:
        mteb.get_task(name)
    except KeyError:
        return False
    return True


def _task_problems(name: str, task: TaskResult, covered: set[tuple[str, str, str]]) -> list[str]:
    found = []
    try:
        if Version(str(task.mteb_version)) < _MTEB:
            found.append(f"{name} was made by mteb {task.mteb_version}: run it again with mteb {_MTEB} or newer")
    except InvalidVersion:
        found.append(f"{name} does not say which mteb made it: run it again")
    known = mteb.get_task(name).metadata
    if task.dataset_revision != known.revision:
        found.append(
            f"{name} was run on revision {task.dataset_revision} of its data, and mteb is at {known.revision}: run it "
            "again"
        )
    if missing := sorted(set(known.eval_splits) - task.scores.keys()):
        found.append(f"{name} lacks the split {', '.join(missing)}: run it without --split")
    for split, scores in task.scores.items():
        for score in scores:
            if (name, split, score["hf_subset"]) not in covered:
                found.append(f"{SETTINGS_FILE} does not cover {name} ({split}/{score['hf_subset']}): run it again")
    return found


def _covered(path: Path) -> set[tuple[str, str, str]]:
    """Task, split and subset of all that the settings file speaks of."""
    covered = set()
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                entry: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number} is half-written: run its task again") from error
            splits = entry.get("splits") or [entry.get("split")]
            subsets = entry.get("subsets") or [entry.get("subset")]
            covered |= {(entry["task"], str(split), str(subset)) for split in splits for subset in subsets}
    return covered


def _public(path: Path) -> dict[str, Any]:
    """The metadata of a model without what holds on one machine alone."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    known = METAS.get(meta["name"]) or _registry()[meta["name"]]
    published = known.loader_kwargs.keys()
    meta["loader_kwargs"] = {key: value for key, value in meta.get("loader_kwargs", {}).items() if key in published}
    return meta


def _registry() -> dict[str, ModelMeta]:
    from mteb.models.model_implementations import MODEL_REGISTRY

    return MODEL_REGISTRY


def _left(results: ModelResults) -> list[str]:
    left = []
    meta = METAS.get(results.name)
    if meta is not None:
        left.append(
            "open a pull request to mteb with mteb_radar/models.py in its model_implementations; "
            "run these tasks again with its loaders, or say in it that torch_radar made them and that a test holds "
            "both to the same vectors"
        )
        unknown = [field for field in ("revision", "release_date") if getattr(meta, field) is None]
        if unknown:
            left.append(
                f"fill in {' and '.join(unknown)} of {results.name} there, from its page on the hub: revision is "
                f"{results.revision}"
            )
        left.append(f"compare the licence {meta.license} with the model's card; it is that of its base")
    left += [
        "read model_meta.json: training_datasets says which tasks are contaminated",
        f"clone {_REPOSITORY}, copy the tree into it, run its tests, and open the pull request",
        "sign its declaration that nothing was trained on the evaluation data beyond what is declared",
    ]
    return left
