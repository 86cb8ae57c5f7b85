"""Ratings: intervals against scipy, coverage on simulated raters, TrueSkill against published numbers and known skills."""
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelab.evaluation.ratings import RatingError, _truncated, contests, fool_rate, trueskill, vote_shares, wilson


def answers(*rows):
    return pd.DataFrame(rows, columns=["rater", "method", "said_real"])


def simulated(rng, raters, trials, rate, spread=0.0):
    """Raters whose own rates are Beta about ``rate``, with variance ``spread`` of rate (1 - rate)."""
    own = np.full(raters, rate) if not spread else rng.beta(rate * (1 / spread - 1), (1 - rate) * (1 / spread - 1), raters)
    said = rng.random((raters, trials)) < own[:, None]
    return pd.DataFrame({"rater": np.repeat(np.arange(raters), trials), "method": "ours", "said_real": said.ravel()})


# --- fool rate -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (455, 1250)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipys(k, n, confidence):
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k / n, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_rates_by_hand():
    table = fool_rate(answers(
        ("a", "ours", True), ("a", "ours", False), ("b", "ours", True), ("b", "ours", False),
        ("a", "rival", 0), ("b", "rival", 0), ("a", "real", 1), ("b", "real", 1),
    ))  # fmt: skip
    assert list(table.index) == ["real", "ours", "rival"]
    assert list(table.rate) == [1.0, 0.5, 0.0] and list(table.answers) == [2, 4, 2] and list(table.raters) == [2, 2, 2]
    assert (table.low < table.rate + 1e-9).all() and (table.rate < table.high + 1e-9).all()
    assert tuple(table.loc["ours", ["low", "high"]]) == pytest.approx(wilson(0.5, 4))  # the raters agree: no design effect


def test_raters_who_differ_are_worth_fewer_answers():
    half = answers(*[("a", "ours", True)] * 50, *[("b", "ours", False)] * 50)
    row = fool_rate(half).loc["ours"]
    # between = 2 * (25^2 + 25^2) = 2500 over n p q = 25: deff 100, so 100 answers of two raters are worth one
    assert (row.low, row.high) == pytest.approx(wilson(0.5, 1))


def test_raters_who_do_not_look_are_dropped():
    table = answers(
        ("looks", "real", True), ("looks", "real", True), ("looks", "ours", False),
        ("half", "real", True), ("half", "real", False), ("half", "ours", False),
        ("not", "real", False), ("not", "real", False), ("not", "ours", True),
    )  # fmt: skip
    assert fool_rate(table).rate["ours"] == pytest.approx(1 / 3)
    kept = fool_rate(table, drop_below=0.5)
    assert kept.rate["ours"] == 0 and kept.raters["ours"] == 2 and kept.rate["real"] == 0.75
    with pytest.raises(RatingError, match="every rater"):
        fool_rate(table[table.rater == "not"], drop_below=0.5)
    with pytest.raises(RatingError, match="'looks' saw no picture of 'photo'"):
        fool_rate(table, real="photo", drop_below=0.5)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_interval_covers_the_truth_as_often_as_it_says(spread):
    """400 studies of 25 raters and 20 trials. Without a design effect, raters who differ would bring coverage down to about 70 %."""
    rng, rate, covered, naive = np.random.default_rng(0), 0.36, 0, 0
    for _ in range(400):
        row = fool_rate(simulated(rng, 25, 20, rate, spread)).loc["ours"]
        covered += row.low <= rate <= row.high
        low, high = wilson(row.rate, row.answers)
        naive += low <= rate <= high
    assert 0.91 <= covered / 400 <= 0.985
    if spread:
        assert naive / 400 < 0.85


@pytest.mark.parametrize(("table", "says"), [
    (pd.DataFrame({"rater": ["a"], "method": ["m"]}), "said_real"),
    (answers(), "empty"),
    (answers(("a", "m", None)), "without an answer"),
    (answers(("a", "m", 0.5)), "True or False"),
    (answers(("a", "m", "yes")), "True or False"),
])  # fmt: skip
def test_tables_of_another_form_are_named(table, says):
    with pytest.raises(RatingError, match=says):
        fool_rate(table)


# --- TrueSkill -------------------------------------------------------------------------------------------------------------------

def games(*rows, draw=True):
    return pd.DataFrame(rows, columns=["winner", "loser", "draw"][: 2 + draw])


def test_first_win_and_first_draw_are_the_published_numbers():
    """Equal newcomers with 10 % draws, as Microsoft's calculator and the `trueskill` package give them."""
    table = games(*[("c", "d", False)] * 9, ("e", "f", True))
    found = trueskill(table)
    assert found.loc["e", ["mu", "sigma"]].tolist() == pytest.approx([25.000, 6.458], abs=5e-4)
    single = trueskill(pd.concat([games(("a", "b", False)), table.iloc[1:]]))  # nine decided games and one draw: 10 %
    assert single.loc["a", ["mu", "sigma"]].tolist() == pytest.approx([29.396, 7.171], abs=5e-4)
    assert single.loc["b", ["mu", "sigma"]].tolist() == pytest.approx([20.604, 7.171], abs=5e-4)
    assert single.comparisons.to_dict() == {"a": 1, "b": 1, "c": 8, "d": 8, "e": 1, "f": 1}


def test_one_win_is_bayes_by_quadrature():
    """Posterior moments of skills 1 and 2 given that 1 showed better, integrated on a grid."""
    s = np.linspace(-25, 75, 1001)
    one, two = np.meshgrid(s, s, indexing="ij")
    posterior = stats.norm.pdf(one, 25, 25 / 3) * stats.norm.pdf(two, 25, 25 / 3) * stats.norm.cdf((one - two) / (25 / 6 * np.sqrt(2)))
    posterior /= posterior.sum()
    mean = (posterior * one).sum()
    found = trueskill(games(("a", "b"), draw=False), tau=0).loc["a"]
    assert (found.mu, found.sigma) == pytest.approx((mean, np.sqrt((posterior * (one - mean) ** 2).sum())), abs=1e-4)


def test_skills_are_found_again_and_their_uncertainty_is_honest():
    """Four methods of known skill, 400 comparisons as raters would make them: order, gaps in units of sigma."""
    skills, errors = {"real": 34.0, "ours": 29.0, "rival": 22.0, "blur": 15.0}, []
    for seed in range(10):
        rng, rows = np.random.default_rng(seed), []
        for _ in range(400):
            one, two = rng.choice(list(skills), 2, replace=False)
            gap = skills[one] - skills[two] + rng.normal(0, 25 / 6 * np.sqrt(2))
            rows.append((one, two, abs(gap) < 1) if gap > 0 else (two, one, abs(gap) < 1))
        found = trueskill(games(*rows), tau=0)
        assert list(found.index) == list(skills)
        centred = found.mu - found.mu.mean() - (pd.Series(skills) - np.mean(list(skills.values())))
        errors += (centred / found.sigma).tolist()
    assert np.abs(errors).max() < 4 and np.sqrt(np.mean(np.square(errors))) < 1.5


@pytest.mark.parametrize("t", [-60.0, -9.0, -2.0, 0.5, 3.0, 7.0, 45.0])
@pytest.mark.parametrize("draw", [False, True])
def test_the_moments_of_a_truncated_gaussian_far_into_the_tails(t, draw):
    """By quadrature about the nearest point of what was seen: the gap, N(t, 1), lay beyond the margin or within it."""
    margin = 0.7
    near = np.clip(t, -margin, margin) if draw else max(t, margin)
    gap = np.linspace(near - 9, near + 9, 2_000_001)
    gap = gap[np.abs(gap) <= margin] if draw else gap[gap >= margin]
    weight = np.exp(-((gap - t) ** 2 - (near - t) ** 2) / 2)
    mean = np.average(gap, weights=weight)
    v, w = _truncated(t, margin, draw)
    assert v == pytest.approx(mean - t, rel=1e-3)
    assert w == pytest.approx(1 - np.average((gap - mean) ** 2, weights=weight), abs=1e-3)


def test_a_draw_draws_together_and_a_method_does_not_meet_itself():
    before = trueskill(games(*[("a", "b", False)] * 5, ("c", "d", True)))
    after = trueskill(games(*[("a", "b", False)] * 5, ("a", "b", True)))
    assert after.mu["a"] - after.mu["b"] < before.mu["a"] - before.mu["b"]
    with pytest.raises(RatingError, match="itself"):
        trueskill(games(("a", "a", False)))
    with pytest.raises(RatingError, match="loser"):
        trueskill(pd.DataFrame({"winner": ["a"]}))


def test_answers_about_single_pictures_become_contests():
    asked = [
        ("Ann", "real", True), ("Ann", "ours", False), ("Bob", "real", True),
        ("Ann", "real", True), ("Bob", "ours", True), ("Ann", "ours", True),
    ]  # fmt: skip
    table = pd.DataFrame(asked, columns=["rater", "method", "said_real"])
    found = contests(table)
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("real", "ours", False), ("real", "ours", True), ("real", "ours", True),
    ]  # fmt: skip
    reversed_ = contests(table.assign(said_real=~table.said_real))
    assert reversed_.winner[0] == "ours" and not reversed_.draw[0]
    three = contests(pd.concat([table, pd.DataFrame([("Ann", "rival", False)], columns=table.columns)]))
    assert len(three) == 5, "the third method's only picture meets the other two's first"
    assert trueskill(found).index[0] == "real"
    with pytest.raises(RatingError, match="nothing can be compared"):
        contests(table[table.method == "real"])


def test_votes_are_shares_of_all():
    votes = pd.DataFrame({"rater": ["a"] * 4 + ["b"] * 4, "chosen": ["x", "x", "x", "y"] + ["x", "y", "y", "y"]})
    table = vote_shares(votes, ["x", "y", "z"])
    assert table.rate.to_dict() == {"x": 0.5, "y": 0.5, "z": 0.0} and table.rate.sum() == 1 and table.index[-1] == "z"
    said = fool_rate(pd.DataFrame({"rater": votes.rater, "method": "x", "said_real": votes.chosen == "x"}))
    assert table.loc["x"].to_dict() == said.loc["x"].to_dict(), "the same interval"
    assert table.loc["z", "low"] == 0 < table.loc["z", "high"]


def test_votes_that_cannot_be_counted():
    with pytest.raises(RatingError, match="votes for w, which"):
        vote_shares(pd.DataFrame({"rater": [1], "chosen": ["w"]}), ["x", "y"])
    with pytest.raises(RatingError, match="lacks chosen"):
        vote_shares(pd.DataFrame({"rater": [1]}), ["x", "y"])
