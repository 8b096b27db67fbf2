"""Pyserini's programs run as they are, told to encode with one of our encoders."""

import argparse
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from pyserini_radar.preparation import prepare_pyserini

_CHECKPOINTS_OWN = ("--pooling", "--l2-norm", "--prefix", "--query-prefix", "--tokenizer", "--add-sep", "--multimodal")


def new_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser of what both programs take from Pyserini's options and give another meaning or default."""
    parser = argparse.ArgumentParser(
        prog=f"python -m pyserini_radar.{program}",
        description=description,
        epilog="All other options are Pyserini's and go to it as they are.",
        allow_abbrev=False,
    )
    parser.add_argument("--encoder", required=True, help="a Raderspace name, or a folder with radar.json")
    parser.add_argument("--encoder-class", choices=["radar"], help="taken for granted here")
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu; else the best one here")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="else what suits the device")
    parser.add_argument("--fp16", action="store_true", help="the same as --dtype float16")
    parser.add_argument("--max-length", type=int, help="tokens of a text at most; else the checkpoint's limit")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those left for Pyserini; ends the program where one contradicts what a checkpoint brings."""
    ours, others = parser.parse_known_args(arguments)
    for option in (argument.partition("=")[0] for argument in others):
        if option in _CHECKPOINTS_OWN:
            parser.error(f"{option}: text form, pooling and normalisation are the checkpoint's own: leave it out")
    if ours.fp16 and ours.dtype not in (None, "float16"):
        parser.error(f"--fp16 and --dtype {ours.dtype} exclude each other")
    ours.dtype = "float16" if ours.fp16 else ours.dtype
    return ours, others


def run(module: str, arguments: Sequence[str], classes: str, encoder: object) -> None:
    """Runs one of Pyserini's programs with an encoder for whatever name it is given.

    Args:
        module: such as ``pyserini.encode``.
        arguments: its command line.
        classes: the dictionary in ``pyserini.encode`` in which it looks encoders up.
        encoder: what it is to encode with.
    """
    prepare_pyserini()
    import pyserini.encode

    # A class is found by a keyword that is part of the encoder's name, and every name has the empty one.
    known: dict[str, Any] = getattr(pyserini.encode, classes)
    known.clear()
    known[""] = lambda **_: encoder
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
