"""eval.py: the estimator, the numbers."""
import itertools

import pytest

from eval import KS, confidence, evaluate, pass_at_k
from extras.pictures import table
from lean.answers import tactics_of
from lean_env import Rollout, Theorem, Verdict


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
    row = {"problems": 4, "samples": 8, "left_out": 0, "pass@1": 0.5, "pass@1_ci": (0.4, 0.6), "entropy": 0.1, "length": 12.0, "cut": 0.0, "tactics": 3}
    lines = table({"base": row, "trained run": row | {"pass@8": 0.875}}, KS).splitlines()
    assert len(lines) == 3 and len({line.index("[0.400") for line in lines[1:]}) == 1  # columns stand below each other
    assert "0.875" in lines[2] and " - " in lines[1]


A, B, C = (Theorem(name, f"theorem {name} : True") for name in "abc")


def judged(statuses):
    """evaluate() of attempts with these statuses, in order: {theorem: "pprt"}, p proved, r rejected, t timeout, c crash."""
    words = {"p": "proved", "r": "rejected", "t": "timeout", "c": "crash"}
    rounds = iter(zip(*statuses.values()))

    def attempt(policy, env, theorems, *_):
        verdicts = [Verdict(words[letter]) for letter in next(rounds)]
        return [Rollout(theorem, [], [], [], verdict) for theorem, verdict in zip(theorems, verdicts)]

    samples = len(statuses[A])
    return evaluate(None, None, list(statuses), samples, attempt=attempt)


def test_every_pass_at_k_is_over_the_same_problems_and_grows_with_k():
    """b has one judged attempt, a wrong one. pass@1 = (1 + 0) / 2, and no k can make b's better; c never was judged."""
    result = judged({A: "pppp", B: "ttrt", C: "tctc"})
    assert result["left_out"] == 7 and [result[f"pass@{k}"] for k in (1, 2, 4)] == [0.5, 0.5, 0.5]
    assert [result[f"pass@{k}_low"] for k in (1, 2, 4)] == [1 / 3] * 3 and result["pass@2_ci"] == [0.0, 1.0]

    # a: 1 of 2 judged, of 4 attempts. Left out: 1/2, then 1 for two and more. Wrong: 1/4, 1 - C(3,2)/C(4,2) = 1/2, 1.
    result = judged({A: "tprt", B: "rrrr"})
    assert [result[f"pass@{k}"] for k in (1, 2, 4)] == [0.25, 0.5, 0.5]
    assert [result[f"pass@{k}_low"] for k in (1, 2, 4)] == [0.125, 0.25, 0.5]


def test_no_pass_at_k_is_given_for_more_attempts_than_any_problem_has():
    result = judged({A: "pt", B: "tr"})
    assert result["pass@1"] == 0.5 and "pass@2" not in result
    nothing = judged({A: "tt", B: "cc"})
    assert not any(name.startswith("pass") for name in nothing) and nothing["left_out"] == 4
    assert "left out" in table({"x": nothing}, KS)


@pytest.mark.parametrize("rows", [["prrp", "rrrr", "pppp"], ["rprr", "pprr", "rrrr"]])
def test_without_failures_of_lean_the_figures_are_the_plain_estimators(rows):
    result = judged(dict(zip((A, B, C), rows)))
    for k in (1, 2, 4):
        scores = [pass_at_k(4, row.count("p"), k) for row in rows]
        assert result[f"pass@{k}"] == result[f"pass@{k}_low"] == sum(scores) / 3
        assert result[f"pass@{k}_ci"] == confidence(scores)
    assert "pass@8" not in result and result["left_out"] == 0


def test_the_table_says_what_was_left_out_and_what_it_does_to_the_figures():
    results = {"slow": judged({A: "pppp", B: "tttr"}), "quick": judged({A: "pppp", B: "rrrr"})}
    head, slow, quick, foot = table(results, KS).splitlines()
    assert head.endswith("left out") and slow.endswith(" 3") and quick.endswith(" 0") and len(head) == len(slow)
    assert foot.startswith("slow: 3 of 8 attempts are left out") and "timeout" in foot
    assert foot.endswith("count as wrong: pass@1 0.500, pass@2 0.500, pass@4 0.500")
