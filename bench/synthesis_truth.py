"""Synthesis at scale against what is true: problems to trees, to samples, to a few steps of training.

    python bench/synthesis_truth.py                        # 300 problems, the paper's settings
    python bench/synthesis_truth.py --folder runs/truth    # kept; called again, it goes on where it was
    python bench/synthesis_truth.py --rollouts 4 --max-depth 4

The language model is the tests' reference solver, which knows the answer of each of its problems and the theorems that
it needs. All else is what a user runs: BM25, math-verify, the small default encoder for mined negatives, and
``radar train retriever``, which reads the samples and trains a tiny random model.

Every reward must be that of the true answer, every positive a theorem that its problem needs, and every negative that
reflection rejected one that it doesn't need. What disagrees is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import timed

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--max-depth", type=int, default=6)
    parser.add_argument("--train-steps", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="the run's folder; by default one that is thrown away")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(compare(arguments, arguments.folder or Path(temporary)))


def compare(arguments: argparse.Namespace, folder: Path) -> int:
    """Goes all the way and prints the figures; returns the exit code."""
    from synthesis.dataset import make_dataset
    from synthesis.markdown import share
    from synthesis.report import write_report
    from synthesis.run import requiring_store, synthesize
    from synthesis.settings import GeneratorSettings, Settings
    from synthesis.tree import TreeSettings
    from tests.synthesis import solver
    from tests.synthesis.parts import solver_process

    corpus = Path(solver.__file__).with_name("theorems.jsonl")
    problems = solver.problems(arguments.problems)
    with solver_process("--slots", 64) as url:
        settings = Settings(
            corpus=str(corpus),
            generator=GeneratorSettings(urls=(url,), model="solver"),
            tree=TreeSettings(rollouts=arguments.rollouts, max_depth=arguments.max_depth),
        )
        searching, _ = timed(lambda: synthesize(problems, corpus, folder, settings=settings))
        making, made = timed(lambda: make_dataset(folder, folder / "samples", settings))
    checked: Counter[str] = Counter()
    with requiring_store(folder) as store:
        report = write_report(store, folder, dataset=folder / "samples", about={"Language model": "solver"})
        wrong = list(wrong_rewards(store, checked))
    with open(folder / "samples" / "train.jsonl", encoding="utf-8") as lines:
        texts = {problem["id"]: problem["problem"] for problem in problems}
        wrong += wrong_labels(map(json.loads, lines), texts, checked)
    training, trained = timed(lambda: train(folder, arguments.train_steps))

    judged, calls = report["problems"]["judged"], report["calls"]
    number = judged["problems"]
    labels = ("relevant", "irrelevant", "unparsable")
    types = ", ".join(f"{kind} {of['samples']:,}" for kind, of in made["types"].items())
    rows = {
        "problems": f"{number:,}, {share(judged['solved'], number)} solved",
        "rollouts": f"{judged['rollouts']:,}, {share(judged['rewarded'], judged['rollouts'])} with reward 1",
        "calls a problem": f"{calls['total'] / number:.1f}, {share(calls['cached'], calls['total'])} from the cache",
        "theorems judged": ", ".join(f"{report['theorems'].get(label, 0):,} {label}" for label in labels),
        "samples": f"{made['samples']:,} of {made['theorems']} theorems: {types}",
        "rewards": f"{checked['rewards']:,} compared with the answer",
        "positives": f"{checked['positives']:,} compared with the theorems that the problem needs",
        "rejected negatives": f"{checked['rejected']:,} compared",
        "mined negatives": f"{checked['mined']:,}, unjudged: {share(checked['needed'], checked['mined'])} are needed",
        "training": f"{trained['steps']} steps, loss {trained['first_loss']:.3f} to {trained['last_loss']:.3f}",
        "seconds": f"{searching:.0f} for the search, {making:.0f} for samples, {training:.0f} for training",
    }
    print(f"\n{number:,} problems, {arguments.rollouts} rollouts, depth {arguments.max_depth}")
    for name, value in rows.items():
        print(f"{name:22}{value}")
    for line in wrong[:20]:
        print(line)
    print(f"{'disagree with truth':22}{len(wrong)}     (aim: 0)")
    return 1 if wrong else 0


def wrong_rewards(records: Iterable[Mapping[str, Any]], checked: Counter[str]) -> Iterator[str]:
    """Yields terminals whose reward is not that of their answer."""
    from tests.synthesis.solver import truth

    for record in records:
        known = truth(record["problem"])
        for place, node in enumerate(record["nodes"]):
            if node["is_terminal"]:
                checked["rewards"] += 1
                if node["reward"] != (known is not None and node["answer"] == known.answer):
                    yield f"{record['problem_id']}, node {place}: {node['answer']!r} has the reward {node['reward']}"


def wrong_labels(samples: Iterable[dict[str, Any]], texts: Mapping[str, str], checked: Counter[str]) -> Iterator[str]:
    """Yields positives that their problem doesn't need, and rejected negatives that it does."""
    from tests.synthesis.solver import truth

    for sample in samples:
        known = truth(texts[sample["provenance"]["problem"]])
        needed = known.theorems if known else frozenset()
        checked["positives"] += 1
        if sample["positive"]["docno"] not in needed:
            yield f"{sample['query_id']}: the positive {sample['positive']['docno']} is not needed"
        for negative in sample["negatives"]:
            is_needed = negative["docno"] in needed
            if negative["origin"] == "rejected":
                checked["rejected"] += 1
                if is_needed:
                    yield f"{sample['query_id']}: the negative {negative['docno']} was rejected and is needed"
            elif sample["query_type"] != "lexical":  # which was written without the problem
                checked["mined"] += 1
                checked["needed"] += is_needed


def train(folder: Path, steps: int) -> dict[str, Any]:
    """Trains a tiny random model on the samples by the command; returns what it says."""
    from tests.models import save_qwen_retriever
    from tests.training.runs import write_recipe

    changes = {
        "batch_queries": 8,
        "group_size": 8,
        "max_query_tokens": 256,
        "max_steps": steps,
        "epochs": 1,
        "save_every": steps,
    }
    data = [{"path": str(folder / "samples" / "train.jsonl")}]
    base = save_qwen_retriever(folder / "base", hidden=32)
    write_recipe(folder / "recipe.yaml", base, "retriever", folder, data=data, **changes)
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "radar_cli", "train", "retriever", str(folder / "recipe.yaml")]
        done = subprocess.run([*command, "--output", output, "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
