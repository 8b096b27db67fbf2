"""Which of the six prompt families rates the documents of which BRIGHT split (paper §5)."""

from torch_radar.instructions import STACKEXCHANGE

RATING_FAMILIES = dict.fromkeys(STACKEXCHANGE, "general") | {
    "leetcode": "leetcode",
    "pony": "pony",
    "aops": "aops",
    "theoremqa_questions": "theoremqa_questions",
    "theoremqa_theorems": "theoremqa_theorems",
}
"""The family of each split. The two of TheoremQA ask for the same mathematical process, in problems and in theorems."""
