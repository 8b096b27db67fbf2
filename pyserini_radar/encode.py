"""``python -m pyserini_radar.encode input … output … encoder …``: ``pyserini.encode`` with a RaDeR checkpoint.

Other than Pyserini's own: a document is one text, newlines included, unless ``--delimiter`` or several ``--fields``
are given; lengths and dimension are the checkpoint's; batches are large, since they are sorted by length and cut by
tokens inside; and what is written has its name only when it is whole. Pyserini itself takes the blanks off both ends of
a document (of files with "bright" in their path it does not).
"""

from collections.abc import Sequence
from pathlib import Path

from pyserini_radar._programs import new_parser, parse, run
from pyserini_radar.encoders import RadarDocumentEncoder
from radar_bm25.aside import built_aside

BATCH_SIZE = 4096
NO_DELIMITER = "\x00"
"""What no text holds: Pyserini's own default, a newline, would cut documents into fields."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; see the module."""
    parser = new_parser("encode", "Encode a collection of JSON lines with a RaDeR checkpoint, by pyserini.encode.")
    parser.add_argument("--embeddings", type=Path, required=True, help="a new folder for the vectors")
    parser.add_argument("--dimension", type=int, help="the checkpoint knows it; checked if given")
    ours, others = parse(parser, arguments)
    if "input" not in others or "output" not in others or "encoder" not in others:
        parser.error("give the three parts of pyserini.encode: input … output … encoder …")
    if ours.embeddings.exists():
        parser.error(f"{ours.embeddings} exists: choose a new folder, or remove it")
    encoder = RadarDocumentEncoder(ours.encoder, device=ours.device, dtype=ours.dtype, max_length=ours.max_length)
    if ours.dimension not in (None, encoder.dimension):
        parser.error(f"{ours.encoder} makes vectors of {encoder.dimension} values, not {ours.dimension}")
    with built_aside(ours.embeddings) as folder:
        # In front of the user's own: the last one given counts.
        defaults = {
            "input": ["--delimiter", NO_DELIMITER] if _fields(others) == 1 else [],
            "output": ["--embeddings", str(folder)],
            "encoder": ["--encoder", ours.encoder, "--dimension", str(encoder.dimension)]
            + ["--max-length", str(encoder.encoder.max_document_tokens), "--batch-size", str(BATCH_SIZE)]
            + (["--fp16"] if ours.fp16 else []),
        }
        line = [part for word in others for part in (word, *defaults.pop(word, []))]
        run("pyserini.encode", line, "document_encoder_class_map", encoder)


def _fields(arguments: Sequence[str]) -> int:
    """How many fields the part ``input`` names; Pyserini's default is one."""
    part = arguments[arguments.index("input") + 1 :]
    if "--fields" not in part:
        return 1
    values = part[part.index("--fields") + 1 :]
    return next((place for place, word in enumerate(values) if word.startswith("-") or word == "output"), len(values))


if __name__ == "__main__":
    main()
