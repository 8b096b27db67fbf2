"""Instructions per benchmark split, exactly as the published runs put them inside the query prefix."""

from __future__ import annotations

STACKEXCHANGE = (
    "biology",
    "earth_science",
    "economics",
    "psychology",
    "robotics",
    "stackoverflow",
    "sustainable_living",
)
CODING = ("leetcode", "pony")
MATHEMATICS = ("aops", "theoremqa_questions", "theoremqa_theorems")
BRIGHT_SPLITS = STACKEXCHANGE + CODING + MATHEMATICS
BRIGHT_REWRITES = ("gpt4_reason", "claude-3-opus_reason", "Gemini-1.0_reason", "llama3-70b_reason", "grit_reason")
"""BRIGHT's configurations with rewritten queries; the rewrite is their column ``query``."""

_MATH = "Instruct: Given a Math problem, retrieve relevant {what} that help answer the problem\nQuery: "


def bright_instruction(split: str, *, long: bool = False) -> str:
    """Returns the instruction of a BRIGHT split (RaDeR §5; BRIGHT's own evaluation code).

    Args:
        split: One of :data:`BRIGHT_SPLITS`, the benchmark's raw split id.
        long: Whether long documents are retrieved instead of passages.

    Raises:
        ValueError: If BRIGHT has no such split.
    """
    unit = "documents" if long else "passages"
    if split in STACKEXCHANGE:
        return f"Instruct: Given a {split} post, retrieve relevant {unit} that help answer the post\nQuery: "
    if split == "pony":
        return f"Instruct: Given a {split} question, retrieve relevant {unit} that help answer the question\nQuery: "
    if split == "leetcode":
        return "Instruct: Given a coding problem, retrieve relevant examples that help answer the problem\nQuery: "
    if split in ("aops", "theoremqa_questions"):
        return _MATH.format(what="examples")
    if split == "theoremqa_theorems":
        return _MATH.format(what="theorems")
    raise ValueError(f"BRIGHT has no split {split!r}; it has {', '.join(BRIGHT_SPLITS)}")


def instruction_for_dataset(dataset_id: str) -> str:
    """Returns the instruction for an ir_datasets id such as ``bright/earth-science-long``; "" where none is known."""
    name = dataset_id.removeprefix("irds:").lower()
    if not name.startswith("bright/"):
        return ""
    split = name.removeprefix("bright/").replace("-", "_")
    long = split.endswith("_long")
    split = split.removesuffix("_long")
    return bright_instruction(split, long=long) if split in BRIGHT_SPLITS else ""
