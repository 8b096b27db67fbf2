"""Where a solution states its final answer."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radar_answers import boxed_answer, stated_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $\boxed{100}$.", "100"),  # the original's rstrip(".0") made 1 of it
        (r"\boxed{10.0}", "10.0"),
        (r"\boxed{0}", "0"),
        (r"\boxed{2.50}", "2.50"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {7}", "7"),
        ("\\boxed{\n x = 7\n}", "x = 7"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{ \fbox{5} }", "5"),
        (r"\boxed{\fbox{5}+\fbox{6}}", r"\fbox{5}+\fbox{6}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a\\{b}}", r"a\\{b}"),
        (r"\boxed{\text{(B)}}", r"\text{(B)}"),
        (r"\boxed 42$ is it", "42"),
        (r"$\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        (r"\boxed7.", "7"),
        (r"\boxed 100.", "100"),
        (r"put it in \boxed{}: \boxed{3}", "3"),
        (r"\boxed{3} (given in \boxed{})", "3"),
        (r"\boxed{3, and then \boxed{5}", "5"),
        (r"\boxed{答案}", "答案"),
        (r"\boxed{3} so \boxed{4", None),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{5\}", None),
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"answer in \boxed form, or in \boxed.", None),
        (r"\boxedness{3}", None),
        ("3", None),
        ("", None),
    ],
)
def test_the_answer_is_what_the_last_box_holds(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == answer


BALANCED = st.recursive(
    st.text(string.ascii_letters + string.digits + " .,+-^_$=", max_size=8) | st.sampled_from([r"\{", r"\}", r"\\"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=8,
)


@given(
    st.lists(BALANCED, max_size=4).map("".join),
    st.text(alphabet="ab $.\n}", max_size=20),
    st.sampled_from(["boxed", "fbox"]),
)
def test_whatever_is_balanced_comes_out_of_its_box(contents: str, around: str, box: str) -> None:
    assert boxed_answer(f"{around}\\{box}{{{contents}}}{around}") == (contents.strip() or None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is 3. No: \boxed{4}.", "4"),
        ("The answer is 3. Wait.\nSo the final answer is: **0.25**.", "0.25"),
        ("Answer: (b)", "(b)"),
        ("answer = 3", None),
        ("Final answer: [1, 2]\n", "[1, 2]"),
        ("The answer is:\n", None),
        (r"The answer is 7, \boxed{7", None),  # cut off
        ("I cannot tell.", None),
        ("", None),
    ],
)
def test_without_a_box_the_answer_is_what_the_text_says_it_is(text: str, answer: str | None) -> None:
    assert stated_answer(text) == answer
