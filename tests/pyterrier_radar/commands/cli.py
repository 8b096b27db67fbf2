"""The radar command in this process, and a collection small enough to check by hand."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from radar_cli import build_app

DOCUMENTS = {
    "lagrange": "The order of a subgroup divides the order of the finite group.",
    "rolle": "Between two equal values of a differentiable function its derivative vanishes.",
    "pigeon": "If more objects than boxes are given, some box holds two objects.",
    "euler": "A connected graph has a closed trail over all edges when every degree is even.",
    "bayes": "The posterior is proportional to the prior times the likelihood.",
    "cantor": "No map from a set onto its power set exists.",
    "fermat": "For a prime p that does not divide a, the power of a to p minus one is one modulo p.",
    "markov": "A nonnegative variable exceeds t with probability at most its mean over t.",
}
QUERIES = {
    "lagrange": "Which sizes can a subgroup of a group of twelve elements have?",
    "euler": "Can one walk over all edges of this graph and return, each degree being even?",
    "pigeon": "Thirteen people: do two share a birth month, there being twelve boxes?",
}
QRELS = "lagrange 0 fermat 1\neuler 0 euler 2\neuler 0 cantor 1\npigeon 0 pigeon 2\npigeon 0 lagrange -100\n"


def write_jsonl(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def radar(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def succeeds(*arguments: object) -> Result:
    result = radar(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def options(files: dict[str, Path], *names: str) -> list[object]:
    return [part for name in names or files for part in (name, files[name])]
