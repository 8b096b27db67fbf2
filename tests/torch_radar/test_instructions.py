"""BRIGHT's instructions, letter for letter."""

import pytest

from torch_radar.instructions import BRIGHT_SPLITS, bright_instruction, instruction_for_dataset


@pytest.mark.parametrize(
    ("split", "long", "expected"),
    [
        (
            "biology",
            False,
            "Instruct: Given a biology post, retrieve relevant passages that help answer the post\nQuery: ",
        ),
        (
            "earth_science",
            True,
            "Instruct: Given a earth_science post, retrieve relevant documents that help answer the post\nQuery: ",
        ),
        (
            "sustainable_living",
            False,
            "Instruct: Given a sustainable_living post, retrieve relevant passages that help answer the post\nQuery: ",
        ),
        (
            "pony",
            False,
            "Instruct: Given a pony question, retrieve relevant passages that help answer the question\nQuery: ",
        ),
        (
            "leetcode",
            False,
            "Instruct: Given a coding problem, retrieve relevant examples that help answer the problem\nQuery: ",
        ),
        (
            "aops",
            False,
            "Instruct: Given a Math problem, retrieve relevant examples that help answer the problem\nQuery: ",
        ),
        (
            "theoremqa_questions",
            False,
            "Instruct: Given a Math problem, retrieve relevant examples that help answer the problem\nQuery: ",
        ),
        (
            "theoremqa_theorems",
            False,
            "Instruct: Given a Math problem, retrieve relevant theorems that help answer the problem\nQuery: ",
        ),
    ],
)
def test_instruction_is_the_published_one(split: str, long: bool, expected: str) -> None:
    assert bright_instruction(split, long=long) == expected


def test_every_bright_dataset_of_ir_datasets_has_its_instruction() -> None:
    import ir_datasets

    ids = [name for name in ir_datasets.registry._registered if name.startswith("bright/")]
    assert len({instruction_for_dataset(name) for name in ids if not name.endswith("-long")}) == 11
    assert all(instruction_for_dataset(name) for name in ids)
    assert instruction_for_dataset("irds:bright/pony-long") == bright_instruction("pony", long=True)


def test_other_datasets_have_none_and_unknown_splits_are_named() -> None:
    assert instruction_for_dataset("msmarco-passage/dev/small") == ""
    with pytest.raises(ValueError, match="no split 'chemistry'"):
        bright_instruction("chemistry")
    assert len(BRIGHT_SPLITS) == 12
