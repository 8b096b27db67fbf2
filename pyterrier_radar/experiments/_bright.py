"""BRIGHT: twelve splits of passages and eight of long documents, under the original and five rewritten queries."""

from pyterrier_radar._families import RATING_FAMILIES
from pyterrier_radar.experiments._declarations import Experiment, Split
from torch_radar import paper
from torch_radar.instructions import BRIGHT_REWRITES, BRIGHT_SPLITS, MATHEMATICS, STACKEXCHANGE, bright_instruction

HYBRID_ALPHA = 0.8
_LONG = (*STACKEXCHANGE, "pony")


def _split(split: str, *, long: bool = False) -> Split:
    name = split.replace("_", "-") + ("-long" if long else "")
    return Split(
        name,
        f"bright/{name}",
        ("R@1", "nDCG@10") if long else ("nDCG@10", "R@100"),
        instruction=bright_instruction(split, long=long),
        # the mathematical splits aren't interpolated
        alpha=1.0 if split in MATHEMATICS else HYBRID_ALPHA,
        family=RATING_FAMILIES[split],
        paper="" if long else split,
    )


BRIGHT = Experiment(
    "bright",
    "BRIGHT, passages",
    tuple(_split(split) for split in BRIGHT_SPLITS),
    (paper.ORIGINAL, *BRIGHT_REWRITES),
    paper.BRIGHT,
)
BRIGHT_LONG = Experiment(
    "bright-long",
    "BRIGHT, long documents",
    tuple(_split(split, long=True) for split in _LONG),
    (paper.ORIGINAL, *BRIGHT_REWRITES),
)


def family_for_dataset(dataset_id: str) -> str:
    """Returns the rating prompt's family for an ir_datasets id; the general one where it is none of BRIGHT's."""
    splits = {split.dataset: split for split in (*BRIGHT.splits, *BRIGHT_LONG.splits)}
    split = splits.get(dataset_id.removeprefix("irds:"))
    return split.family if split else "general"
