"""Priors and divergences: closed forms against torch.distributions and Monte Carlo, and the erratum of Eq. 5 pinned."""
import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from facelab.core import Reading, ShapeError
from facelab.probability import AdditiveGaussian, GaussianMixture, UnplacedPriorError, additive_posterior, kl, unit_gaussian

N, D, K = 5, 64, 8


@pytest.fixture
def draws():
    g = torch.Generator().manual_seed(3)
    rand = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    means = torch.nn.functional.normalize(rand(K, D), dim=1)
    return {
        "mean": 0.2 * rand(N, D), "log_var": 2 * math.log(0.07) + 0.3 * rand(N, D), "means": means,
        "scales": 0.05 + 0.1 * torch.rand(K, generator=g, dtype=torch.float64), "weights": rand(N, K).softmax(dim=1),
    }  # fmt: skip


def additive(d):
    return AdditiveGaussian(d["means"], d["scales"]).at(d["weights"])


def mixture(d):
    return GaussianMixture(d["means"], d["scales"]).at(d["weights"])


def posterior(d):
    return Normal(d["mean"], (d["log_var"] / 2).exp())


def test_closed_forms_are_those_of_torch(draws):
    prior = additive(draws)
    expected = kl_divergence(posterior(draws), Normal(prior.mean, prior.scale)).sum(dim=1)
    assert not torch.allclose(draws["log_var"].exp().sqrt(), prior.scale, rtol=0.2)  # sigma != sigma_phi
    assert torch.allclose(kl(draws["mean"], draws["log_var"], prior), expected, rtol=1e-5)
    unit = kl_divergence(posterior(draws), Normal(torch.zeros(D).double(), torch.ones(D).double())).sum(dim=1)
    assert torch.allclose(kl(draws["mean"], draws["log_var"], unit_gaussian(D)), unit, rtol=1e-5)


def test_single_precision_keeps_five_digits(draws):
    single = {name: value.float() for name, value in draws.items()}
    assert torch.allclose(kl(single["mean"], single["log_var"], additive(single)).double(),
                          kl(draws["mean"], draws["log_var"], additive(draws)), rtol=1e-5)  # fmt: skip


def test_a_network_in_bfloat16_is_charged_in_single_precision():
    g = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(3, 1024, generator=g).bfloat16(), torch.randn(3, 1024, generator=g).bfloat16()
    means, weights = torch.randn(2, 1024, generator=g), torch.tensor([[0.3, 0.7]]).expand(3, -1)
    clusters = (means, torch.ones(2))
    for prior in (unit_gaussian(1024), AdditiveGaussian(*clusters).at(weights), GaussianMixture(*clusters).at(weights)):
        noise = torch.randn(1, 3, 1024, generator=g)
        low = kl(mean, log_var, prior, noise=noise)
        assert low.dtype == torch.float32 and torch.equal(low, kl(mean.float(), log_var.float(), prior, noise=noise))


def test_closed_form_agrees_with_monte_carlo(draws):
    prior, count = additive(draws), 20_000
    z = posterior(draws).sample((count,))
    terms = posterior(draws).log_prob(z).sum(dim=2) - prior.log_prob(z)
    error = terms.std(dim=0) / count**0.5
    assert ((terms.mean(dim=0) - kl(draws["mean"], draws["log_var"], prior)).abs() < 5 * error).all()
    assert (error < 0.01 * terms.mean(dim=0)).all()  # the band is narrow enough to fail


def test_the_gradients_are_right(draws):
    inputs = [draws[name].requires_grad_() for name in ("mean", "log_var", "means", "scales", "weights")]

    def divergence(mean, log_var, means, scales, weights):
        return kl(mean, log_var, AdditiveGaussian(means, scales).at(weights / weights.sum(dim=1, keepdim=True)))

    assert torch.autograd.gradcheck(divergence, inputs)


def test_mixture_density_is_that_of_torch(draws):
    parts = Independent(Normal(draws["means"].expand(N, K, D), draws["scales"][:, None].expand(N, K, D)), 1)
    theirs = MixtureSameFamily(Categorical(draws["weights"]), parts)
    z = torch.randn(7, N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(mixture(draws).log_prob(z), theirs.log_prob(z))


def test_mixture_estimate_is_unbiased_and_single_draws_may_be_negative():
    g = torch.Generator().manual_seed(0)
    prior = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, 0.5])).at(torch.tensor([[0.3, 0.7]]))
    mean, log_var = torch.tensor([[0.8]]), torch.tensor([[math.log(0.3)]])
    z = torch.linspace(-8, 8, 20_001)[:, None, None].double()
    q = Normal(mean.double(), (log_var.double() / 2).exp()).log_prob(z)[..., 0]
    truth = torch.trapezoid(q.exp() * (q - prior.log_prob(z.float()).double()), z[:, 0, 0], dim=0)
    single = torch.cat([kl(mean, log_var, prior, generator=g) for _ in range(4000)])
    assert (single < 0).any()
    assert abs(single.mean() - truth) < 5 * single.std() / 4000**0.5
    many = kl(mean, log_var, prior, samples=4000, generator=g)
    assert abs(many - truth) < 5 * single.std() / 4000**0.5
    noise = torch.randn(3, 1, 1, generator=g)
    assert torch.equal(kl(mean, log_var, prior, noise=noise), kl(mean, log_var, prior, noise=noise))


def test_drawn_components_come_as_often_as_they_weigh(draws):
    means = torch.arange(3.0)[:, None]
    placed = GaussianMixture(means, torch.ones(3)).at(torch.tensor([[0.2, 0.5, 0.3]]))
    chosen = placed.draw(20_000, generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(chosen.mean[:, 0].long(), minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([0.2, 0.5, 0.3]), atol=0.015)


def test_additive_prior_is_the_law_of_a_weighted_sum_and_narrower_than_the_mixture():
    g = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(K, D, generator=g), dim=1)
    scales, weights = torch.full((K,), 0.1), torch.rand(K, generator=g).softmax(dim=0)
    parts = means + scales[:, None] * torch.randn(20_000, K, D, generator=g)  # independent z_k
    total = (weights[:, None] * parts).sum(dim=1)
    prior = AdditiveGaussian(means, scales).at(weights[None])
    assert torch.allclose(total.mean(dim=0), prior.mean[0], atol=2e-3)
    assert torch.allclose(total.var(dim=0).mean(), prior.scale[0, 0] ** 2, rtol=0.02)
    mixed = GaussianMixture(means, scales).at(weights[None]).sample(20_000, generator=g)
    assert mixed.var(dim=0).sum() > 4 * total.var(dim=0).sum()


def test_mixed_faces_have_a_sharper_prior():
    prior = AdditiveGaussian(torch.zeros(K, 2), torch.full((K,), 0.1))  # SPECS A8
    assert prior.at(torch.full((1, K), 1 / K)).scale.item() == pytest.approx(0.1 / K**0.5)
    assert prior.at(torch.eye(K)[:1]).scale.item() == pytest.approx(0.1)


@pytest.mark.parametrize("dimensions", [1, 16, 64])
def test_equation_5_as_printed_forgets_the_dimensions(dimensions):
    g = torch.Generator().manual_seed(0)
    mean = 0.2 * torch.randn(1, dimensions, generator=g, dtype=torch.float64)
    log_sigma = torch.tensor([math.log(0.1)], dtype=torch.float64, requires_grad=True)
    prior = AdditiveGaussian(torch.zeros(2, dimensions).double(), torch.tensor([0.3, 0.3]).double()).at(torch.tensor([[0.5, 0.5]]).double())
    mean.requires_grad_()
    value, slope = {}, {}
    for reading in Reading:
        out = kl(mean, (2 * log_sigma).expand(1, dimensions), prior, reading=reading)
        value[reading], slope[reading] = out.item(), torch.autograd.grad(out, [log_sigma, mean])
    s = prior.scale.item()
    printed = math.log(s / 0.1) + (0.1**2 + mean.square().sum().item()) / (2 * s**2) - 0.5
    assert value[Reading.literal] == pytest.approx(printed)
    assert (slope[Reading.fixed][0] / slope[Reading.literal][0]).item() == pytest.approx(dimensions)
    assert torch.allclose(slope[Reading.fixed][1], slope[Reading.literal][1])
    assert (value[Reading.fixed] == pytest.approx(value[Reading.literal])) is (dimensions == 1)


def test_swapped_sigmas(draws):
    """SPECS A3: swapped everywhere is the reverse divergence, never negative; swapped in the logarithm alone is negative."""
    s, sigma, dimensions = 0.1, 0.01, 64
    right = kl(torch.zeros(1, dimensions), torch.full((1, dimensions), 2 * math.log(sigma)),
               AdditiveGaussian(torch.zeros(1, dimensions), torch.tensor([s])).at(torch.ones(1, 1))).item()  # fmt: skip
    everywhere = dimensions * (math.log(sigma / s) + s**2 / (2 * sigma**2) - 0.5)
    in_the_log = dimensions * (math.log(sigma / s) + sigma**2 / (2 * s**2) - 0.5)
    assert right > 0 and everywhere > 0 and in_the_log < 0
    assert abs(everywhere - right) > 100 and abs(in_the_log - right) > 100


def test_clusterwise_posterior_is_the_law_of_a_weighted_sum(draws):
    g = torch.Generator().manual_seed(0)
    means, log_vars = torch.randn(1, K, 2, generator=g), torch.randn(1, K, 2, generator=g)
    weights = torch.rand(1, K, generator=g).softmax(dim=1)
    mean, log_var = additive_posterior(means, log_vars, weights)
    total = (weights[..., None] * (means + (log_vars / 2).exp() * torch.randn(100_000, K, 2, generator=g))).sum(dim=1)
    assert torch.allclose(total.mean(dim=0), mean[0], atol=0.02)
    assert torch.allclose(total.var(dim=0), log_var.exp()[0], rtol=0.03)


def test_samples_follow_the_prior(draws):
    prior = additive({name: value[:1] if name == "weights" else value for name, value in draws.items()})
    z = prior.sample(5000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(z.mean(dim=0), prior.mean[0], atol=5 * prior.scale.item() / 5000**0.5)
    assert z.std(dim=0).mean().item() == pytest.approx(prior.scale.item(), rel=0.02)
    assert torch.equal(prior.sample(2, temperature=0), prior.mean.expand(2, -1))
    full = MultivariateNormal(prior.mean[0], prior.scale.item() ** 2 * torch.eye(D).double())
    assert torch.allclose(prior.log_prob(z), full.log_prob(z))


@pytest.mark.parametrize(("error", "word", "act"), [
    (UnplacedPriorError, "place it", lambda d: kl(d["mean"], d["log_var"], AdditiveGaussian(d["means"], d["scales"]))),
    (UnplacedPriorError, "place it", lambda d: kl(d["mean"], d["log_var"], GaussianMixture(d["means"], d["scales"]))),
    (ShapeError, "sum to 1", lambda d: AdditiveGaussian(d["means"], d["scales"]).at(2 * d["weights"])),
    (ShapeError, "negative", lambda d: AdditiveGaussian(d["means"], d["scales"]).at(torch.tensor([[2.0, -1.0] + [0.0] * 6]))),
    (ShapeError, "weights must be", lambda d: GaussianMixture(d["means"], d["scales"]).at(d["weights"][:, :3])),
    (ShapeError, "scales", lambda d: GaussianMixture(d["means"], -d["scales"])),
    (ShapeError, "mean and log_var", lambda d: kl(d["mean"], d["log_var"][:, :2], additive(d))),
    (ShapeError, "the prior is placed", lambda d: kl(d["mean"][:2], d["log_var"][:2], additive(d))),
    (ShapeError, "one sigma_phi", lambda d: kl(d["mean"], d["log_var"], additive(d), reading=Reading.literal)),
    (ShapeError, "one reading", lambda d: kl(d["mean"], d["log_var"], mixture(d), reading=Reading.literal)),
])  # fmt: skip
def test_errors_say_what_to_do(draws, error, word, act):
    with pytest.raises(error, match=word):
        act(draws)
