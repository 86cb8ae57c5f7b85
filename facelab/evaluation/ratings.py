"""What people said, made into numbers: how often a made picture passed for real, and who wins when two are compared."""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import pandas as pd
from scipy.special import log_ndtr, ndtr

from facelab.core import FacelabError

NORMAL = NormalDist()


class RatingError(FacelabError, ValueError):
    """A table of ratings lacks a column, holds no rows, or holds answers that are not yes or no."""


def _table(table: pd.DataFrame, columns: tuple[str, ...], answers: tuple[str, ...]) -> pd.DataFrame:
    missing = [name for name in columns if name not in table]
    if missing:
        raise RatingError(f"the table lacks {', '.join(missing)}: it needs the columns {', '.join(columns)}, one row an answer")
    if not len(table) or table[list(columns)].isna().any(axis=None):
        raise RatingError("the table is empty or holds rows without an answer: leave those rows out")
    for name in answers:
        if not table[name].isin([0, 1]).all():
            raise RatingError(f"{name} must be True or False (1 or 0), got {sorted(map(str, set(table[name])))[:5]}")
    return table.astype({name: bool for name in answers})


def wilson(rate: float, answers: float, confidence: float = 0.95) -> tuple[float, float]:
    r"""Interval of a share seen in n answers, never outside [0, 1] and never of no width:
    :math:`\frac{\hat p + z^2/2n \pm z\sqrt{\hat p(1-\hat p)/n + z^2/4n^2}}{1 + z^2/n}`. Source: Wilson 1927."""
    z2 = NORMAL.inv_cdf((1 + confidence) / 2) ** 2
    middle = rate + z2 / (2 * answers)
    half = math.sqrt(z2 * (rate * (1 - rate) / answers + z2 / (4 * answers**2)))
    return max(0.0, (middle - half) / (1 + z2 / answers)), min(1.0, (middle + half) / (1 + z2 / answers))


def fool_rate(judgements: pd.DataFrame, *, real: str = "real", drop_below: float | None = None, confidence: float = 0.95) -> pd.DataFrame:
    r"""How often each method's pictures were taken for photographs, with an interval.

    The interval is Wilson's for :math:`n / \max(1, \mathrm{deff})` answers: those of one rater are alike, so that 25 raters of 50 answers
    each are worth fewer than 1250. The design effect is the variance of the share as seen between raters over the binomial one,

    .. math:: \mathrm{deff} = \frac{\frac{R}{R-1}\sum_r (k_r - \hat p\, n_r)^2}{n\,\hat p (1 - \hat p)},

    for rater r with :math:`k_r` of :math:`n_r` answers "real", R raters; with one rater it is 1.

    Args:
        judgements: one row an answer: ``rater``, ``method`` and ``said_real`` (bool). Photographs are a method too, named ``real``.
        real: the photographs' name in ``method``.
        drop_below: leave out raters who called fewer than this share of the photographs real, such as 0.5: they do not look.
        confidence: of the interval.

    Returns: by method, best first: ``rate``, ``low``, ``high`` in [0, 1], ``answers``, ``raters``.
    Raises: RatingError for a table of another form, a rater who saw no photograph when ``drop_below`` is given, and when all are dropped.
    Source: AF-VAE Table 2 (25 raters, 50 trials); FVAE Table 2, which drops raters below 50 %. Neither says how its interval was made:
    Wilson 1927 with the effective sample size of Korn and Graubard 1998 is ours.
    """
    table = _table(judgements, ("rater", "method", "said_real"), ("said_real",))
    if drop_below is not None:
        seen = table[table.method == real].groupby("rater").said_real.mean().reindex(table.rater.unique())
        if seen.isna().any():
            raise RatingError(f"rater {seen.index[seen.isna()][0]!r} saw no picture of {real!r}: nothing to drop raters by")
        table = table[table.rater.isin(seen.index[seen >= drop_below])]
        if not len(table):
            raise RatingError(f"every rater called fewer than {drop_below:.0%} of the photographs real: ask other raters")
    rows = {method: _share(answers.said_real, answers.rater, confidence) for method, answers in table.groupby("method")}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").sort_values("rate", ascending=False)


def _share(yes: pd.Series, rater: pd.Series, confidence: float) -> dict[str, float]:
    """A share, and its interval by :func:`fool_rate`'s formula."""
    n, rate, raters = len(yes), yes.mean(), yes.groupby(rater).agg(["sum", "size"])
    effect = 1.0
    if len(raters) > 1 and 0 < rate < 1:
        between = ((raters["sum"] - rate * raters["size"]) ** 2).sum() * len(raters) / (len(raters) - 1)
        effect = max(1.0, between / (n * rate * (1 - rate)))
    low, high = wilson(rate, n / effect, confidence)
    return {"rate": rate, "low": low, "high": high, "answers": n, "raters": len(raters)}


def vote_shares(votes: pd.DataFrame, methods: Sequence[str], *, confidence: float = 0.95) -> pd.DataFrame:
    """How often each of several methods was chosen as the best of a row; the shares add up to 1.

    Args:
        votes: one row a vote: ``rater`` and ``chosen``, a method's name. methods: all that were shown, also those that nobody chose.
        confidence: of each share's interval, which is :func:`fool_rate`'s; chance is ``1 / len(methods)``.

    Returns: by method, best first: ``rate``, ``low``, ``high`` in [0, 1], ``answers``, ``raters``.
    Raises: RatingError for a table of another form, and for a vote for something that was not shown.
    Source: FaceFeat-GAN, Tables 3 and 4 ("user study"), whose columns add up to 100 %.
    """
    table = _table(votes, ("rater", "chosen"), ())
    strange = sorted(set(table.chosen) - set(methods))
    if strange:
        raise RatingError(f"votes for {', '.join(strange)}, which is not among {', '.join(methods)}")
    rows = {method: _share(table.chosen == method, table.rater, confidence) for method in methods}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").sort_values("rate", ascending=False)


def contests(judgements: pd.DataFrame) -> pd.DataFrame:
    """Answers about single pictures as comparisons of two methods, for :func:`trueskill`.

    A rater's k-th picture of one method meets the k-th of every other: what was called real beats what was called made; alike is a draw.

    Args: ``judgements`` as in :func:`fool_rate`. Returns ``winner``, ``loser``, ``draw``; raters in order of their names, their answers in
    the order of the table. Raises RatingError, also where no rater judged two methods.
    """
    table = _table(judgements, ("rater", "method", "said_real"), ("said_real",))
    turn = table.groupby(["rater", "method"]).cumcount()
    rows = []
    for _, met in table.groupby(["rater", turn]):
        for one, two in itertools.combinations(zip(met.method, met.said_real, strict=True), 2):
            winner, loser = (one, two) if one[1] >= two[1] else (two, one)
            rows.append({"winner": winner[0], "loser": loser[0], "draw": one[1] == two[1]})
    if not rows:
        raise RatingError("no rater judged pictures of two methods: nothing can be compared")
    return pd.DataFrame(rows)


def trueskill(
    comparisons: pd.DataFrame, *, mu: float = 25.0, sigma: float = 25 / 3, beta: float = 25 / 6, tau: float = 25 / 300
) -> pd.DataFrame:
    r"""Each method's skill from comparisons of two, one after the other in the order of the table.

    A method's skill is :math:`\mathcal N(\mu, \sigma^2)`; its showing in one comparison adds noise of deviation :math:`\beta`, and it wins
    when it shows more than :math:`\varepsilon` better. With :math:`c^2 = 2\beta^2 + \sigma_1^2 + \sigma_2^2` and
    :math:`t = (\mu_1 - \mu_2)/c`, the winner 1 and the loser 2 move by moments of the truncated Gaussian,

    .. math:: \mu_i \leftarrow \mu_i \pm \frac{\sigma_i^2}{c}\, v, \qquad \sigma_i^2 \leftarrow \sigma_i^2 (1 - \sigma_i^2 w / c^2),

    where :math:`v = \varphi(x)/\Phi(x),\ w = v(v + x)` at :math:`x = t - \varepsilon/c` of a win, and of a draw, with
    :math:`l = -\varepsilon/c - t,\ u = \varepsilon/c - t`,
    :math:`v = \frac{\varphi(l) - \varphi(u)}{\Phi(u) - \Phi(l)},\ w = v^2 + \frac{u\varphi(u) - l\varphi(l)}{\Phi(u) - \Phi(l)}`.
    The margin follows from the share of draws in the table, :math:`\varepsilon = \Phi^{-1}\bigl(\frac{1 + p}{2}\bigr)\sqrt 2\,\beta`.

    Args:
        comparisons: one row a comparison: ``winner``, ``loser``, and if there were draws ``draw`` (bool).
        mu, sigma: skill of a method not yet seen. beta: noise of a showing.
        tau: drift of a skill before each comparison, which keeps sigma from vanishing; 0: skills stand still.

    Returns: by method, best first: ``mu``, ``sigma``, ``comparisons``.
    Raises: RatingError for a table of another form, and for a method compared with itself.
    Source: Herbrich, Minka and Graepel, "TrueSkill" (NIPS 2006), two players; AF-VAE Table 2. The defaults are the paper's.
    """
    columns = ("winner", "loser") + (("draw",) if "draw" in comparisons else ())
    table = _table(comparisons, columns, columns[2:])
    if (table.winner == table.loser).any():
        raise RatingError("a row compares a method with itself: leave it out")
    draws = table.draw if "draw" in table else pd.Series(False, index=table.index)
    margin = NORMAL.inv_cdf((1 + min(draws.mean(), 0.999)) / 2) * math.sqrt(2) * beta
    skill = {name: (mu, sigma**2, 0) for name in sorted({*table.winner, *table.loser})}
    for one, two, draw in zip(table.winner, table.loser, draws, strict=True):
        (mu1, var1, seen1), (mu2, var2, seen2) = skill[one], skill[two]
        var1, var2 = var1 + tau**2, var2 + tau**2
        c = math.sqrt(2 * beta**2 + var1 + var2)
        v, w = _truncated((mu1 - mu2) / c, margin / c, draw)
        skill[one] = mu1 + var1 / c * v, var1 * (1 - var1 / c**2 * w), seen1 + 1
        skill[two] = mu2 - var2 / c * v, var2 * (1 - var2 / c**2 * w), seen2 + 1
    rows = {name: {"mu": m, "sigma": math.sqrt(var), "comparisons": seen} for name, (m, var, seen) in skill.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").sort_values("mu", ascending=False)


def _truncated(t: float, margin: float, draw: bool) -> tuple[float, float]:
    """v and w of a win or a draw."""
    if not draw:
        x = t - margin
        v = math.exp(-(x * x) / 2 - log_ndtr(x)) / math.sqrt(2 * math.pi)  # in logarithms: an upset may be all but impossible
        return v, v * (v + x)
    low, high = -margin - abs(t), margin - abs(t)  # of the lower tail, where ndtr is exact; v is odd in t
    mass = ndtr(high) - ndtr(low)
    if mass == 0:
        return math.copysign(1, t) * high, 1.0
    v = (NORMAL.pdf(low) - NORMAL.pdf(high)) / mass
    return math.copysign(1, t) * v, v * v + (high * NORMAL.pdf(high) - low * NORMAL.pdf(low)) / mass
