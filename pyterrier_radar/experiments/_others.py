"""RAR-b's seventeen tasks, MS MARCO with two years of TREC Deep Learning, and TheoremQA's questions.

The paper states no instruction for the first two, so they have none here (``--instruction`` sets one); it interpolates
nothing on them, so their hybrid is weighted as BRIGHT's.
"""

from pyterrier_radar._families import RATING_FAMILIES
from pyterrier_radar.experiments._declarations import Experiment, Split
from torch_radar import paper
from torch_radar.instructions import bright_instruction

RARB_TASKS = (
    "alphanli",
    "arc-challenge",
    "hellaswag",
    "piqa",
    "quail",
    "siqa",
    "spartqa",
    "tempreason-l1",
    "tempreason-l2-pure",
    "tempreason-l2-fact",
    "tempreason-l2-context",
    "tempreason-l3-pure",
    "tempreason-l3-fact",
    "tempreason-l3-context",
    "winogrande",
    "math",
    "code",
)

RARB = Experiment(
    "rar-b",
    "RAR-b, full retrieval",
    # no id: ir_datasets doesn't have RAR-b, so its files are the user's (--data)
    tuple(Split(task, None, ("nDCG@10", "R@10"), paper=task) for task in RARB_TASKS),
    published=paper.RARB,
)

MS_MARCO = Experiment(
    "ms-marco",
    "MS MARCO passages",
    (
        Split("dev", "msmarco-passage/dev/small", ("RR@10", "R@1000"), paper="dev"),
        Split("dl19", "msmarco-passage/trec-dl-2019/judged", ("nDCG@10", "R(rel=2)@1000"), paper="dl19"),
        Split("dl20", "msmarco-passage/trec-dl-2020/judged", ("nDCG@10", "R(rel=2)@1000"), paper="dl20"),
    ),
    published=paper.MS_MARCO,
)

THEOREMQA_QA = Experiment(
    "theoremqa-qa",
    "TheoremQA, question answering",
    (
        Split(
            "theoremqa",
            "bright/theoremqa-theorems",  # its documents alone: the questions are TheoremQA's
            ("accuracy",),
            instruction=bright_instruction("theoremqa_theorems"),
            alpha=1.0,
            family=RATING_FAMILIES["theoremqa_theorems"],
        ),
    ),
    counted="answers",
)
