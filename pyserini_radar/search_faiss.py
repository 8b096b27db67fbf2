"""``python -m pyserini_radar.search_faiss --index … --topics … --output …``: ``pyserini.search.faiss`` with RaDeR."""

from collections.abc import Sequence

from pyserini_radar._programs import new_parser, parse, run
from pyserini_radar.encoders import RadarQueryEncoder
from torch_radar.instructions import BRIGHT_SPLITS, bright_instruction

BATCH_SIZE = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; see the module."""
    parser = new_parser("search_faiss", "Search a FAISS folder with a RaDeR checkpoint, by pyserini.search.faiss.")
    instruction = parser.add_mutually_exclusive_group()
    instruction.add_argument("--instruction", default="", help="text to put inside the query prefix")
    instruction.add_argument(
        "--bright", metavar="SPLIT", choices=BRIGHT_SPLITS, help="a BRIGHT split's own instruction"
    )
    ours, others = parse(parser, arguments)
    encoder = RadarQueryEncoder(
        ours.encoder,
        instruction=bright_instruction(ours.bright) if ours.bright else ours.instruction,
        device=ours.device,
        dtype=ours.dtype,
        max_length=ours.max_length,
    )
    # In front of the user's own: the last one given counts.
    line = ["--encoder", ours.encoder, "--batch-size", str(BATCH_SIZE), *others]
    run("pyserini.search.faiss", line, "query_encoder_class_map", encoder)


if __name__ == "__main__":
    main()
