"""eval.py: the estimator, the numbers."""
import itertools

import pytest

from eval import KS, confidence, pass_at_k
from extras.pictures import table
from lean.answers import tactics_of


def test_pass_at_k_equals_the_share_of_k_subsets_that_hold_a_right_attempt():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(itertools.combinations([i < c for i in range(n)], k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_known_cases():
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(10, 3, 5) == pytest.approx(11 / 12)  # 1 - C(7,5)/C(10,5) = 1 - 21/252
    assert pass_at_k(10, 3, 10) == 1.0
    assert pass_at_k(4, 0, 4) == 0.0


@pytest.mark.parametrize("n, c, k", [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_pass_at_k_refuses_what_it_cannot_estimate(n, c, k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(n, c, k)


def test_the_interval_holds_the_mean_and_shrinks_with_the_number_of_problems():
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 1000
    low, high = confidence(few)
    assert low < 0.5 < high and high - low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.15)  # the normal approximation
    assert confidence(many)[1] - confidence(many)[0] < (high - low) / 5
    assert confidence([1.0] * 20) == [1.0, 1.0]


def test_tactics_are_the_first_words_of_lines_without_their_bullets():
    assert tactics_of("by\n  constructor\n  · intro h\n    exact h.left\n  · rfl") == {"constructor", "intro", "exact", "rfl"}
    assert tactics_of("") == set()


def test_the_table_has_a_line_for_each_row_and_a_dash_where_there_were_too_few_attempts():
    row = {"pass@1": 0.5, "pass@1_ci": (0.4, 0.6), "entropy": 0.1, "length": 12.0, "cut": 0.0, "tactics": 3}
    lines = table({"base": row, "trained run": row | {"pass@8": 0.875}}, KS).splitlines()
    assert len(lines) == 3 and len({line.index("[0.400") for line in lines[1:]}) == 1  # columns stand below each other
    assert "0.875" in lines[2] and " - " in lines[1]
