"""GAN objectives: which way each one pushes, and the penalty against slopes that are known."""
import math
from functools import partial

import pytest
import torch
from scipy.special import lambertw
from stand_ins import seeded
from torch.nn import functional as F

from facelab.adversarial import (
    began_balance,
    began_discriminator,
    energy,
    gradient_penalty,
    r1_penalty,
    rejection,
    wasserstein_critic,
    wasserstein_generator,
)
from facelab.core import Reading


def test_critic_and_generator_pull_the_same_answer_apart():
    real, fake = torch.tensor([2.0, 4.0], requires_grad=True), torch.tensor([1.0, -1.0], requires_grad=True)
    assert wasserstein_generator(real, fake) == 3.0 and wasserstein_critic(real, fake) == -3.0
    (generator,) = torch.autograd.grad(wasserstein_generator(real, fake), fake)
    assert (generator < 0).all(), "minimised, it raises the answers to what is made"
    of_real, of_fake = torch.autograd.grad(wasserstein_critic(real, fake), (real, fake))
    assert (of_real < 0).all() and (of_fake > 0).all(), "the critic raises those to real pictures and lowers the others"


def test_a_line_game_ends_at_the_real_ones_only_with_the_right_sign():
    """A number x must become 3. With Eq. 11 as both players' loss the critic helps whatever is made to look best, and x runs away."""
    def play(right: bool) -> float:
        x, slope = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
        for _ in range(600):
            real, fake = slope * 3.0, slope * x.detach()
            objective = wasserstein_critic(real, fake) if right else wasserstein_generator(real, fake)
            (g,) = torch.autograd.grad(objective + 5 * slope.square(), slope)  # a penalty, so that neither answer is unbounded
            with torch.no_grad():
                slope -= 0.1 * g
            (g,) = torch.autograd.grad(wasserstein_generator(slope * 3.0, slope * x), x)
            with torch.no_grad():
                x -= 0.1 * g
        return x.item()

    assert abs(play(True) - 3) < 0.1 and abs(play(False) - 3) > 3


def test_penalty_of_a_plane_is_its_slope():
    real, fake, mix = torch.randn(5, 3, 4, 4, generator=seeded()), torch.randn(5, 3, 4, 4, generator=seeded(1)), torch.rand(5, 1, 1, 1)
    for slope in (0.0, 1.0, 3.0):
        across = torch.full((48,), slope / 48**0.5)
        penalty = gradient_penalty(lambda x, a=across: x.flatten(1) @ a, real, fake, mix)
        torch.testing.assert_close(penalty, torch.tensor((slope - 1) ** 2))


def test_penalty_averages_the_patches_of_a_picture_and_can_be_learnt_from():
    real, fake, mix = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)
    scale = torch.tensor(8.0, requires_grad=True)
    penalty = gradient_penalty(lambda x: scale * x, real, fake, mix)  # sixteen answers, their mean's slope is 8 / 16 each, norm 2
    torch.testing.assert_close(penalty, torch.tensor(1.0))
    assert torch.autograd.grad(penalty, scale)[0] > 0
    seen = []
    gradient_penalty(lambda x: seen.append(x.detach().clone()) or x.sum(dim=(2, 3)), real, fake, mix)
    assert seen[0].unique().tolist() == [0.25, 0.75], "u of the real picture, 1 - u of the made one"


def test_energies_are_torchs_cross_entropy():
    logits = 4 * torch.randn(7, 3, generator=seeded())
    oracle = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(energy(logits), oracle(logits, torch.ones_like(logits)))
    torch.testing.assert_close(rejection(logits), oracle(logits, torch.zeros_like(logits)))
    torch.testing.assert_close(rejection(logits, reading=Reading.literal), -oracle(logits, torch.ones_like(logits)))
    sure = torch.tensor([-1000.0, 1000.0])
    assert energy(sure) == rejection(sure) == 500, "no logarithm of 0"


def test_every_player_pulls_its_way():
    """Answers rise where the derivative is negative: the generator's and the discriminator's pulls on a made one are opposite."""
    (real,), (generator,), (fixed,), (literal,) = (
        torch.autograd.grad(loss(logit), logit)
        for loss in (energy, energy, rejection, partial(rejection, reading=Reading.literal))
        for logit in [torch.tensor(0.3, requires_grad=True)]
    )
    d = torch.sigmoid(torch.tensor(0.3))
    torch.testing.assert_close(torch.stack([real, generator]), (d - 1).expand(2))
    torch.testing.assert_close(torch.stack([fixed, literal]), torch.stack([d, 1 - d]))
    assert generator < 0 < min(fixed, literal), "it is only the strength in which the readings differ, not the direction"


@pytest.mark.parametrize(
    ("d", "literal", "fixed"), [(0.5, -0.693, 0.693), (0.1, -2.303, 0.105), (0.01, -4.605, 0.010), (0.001, -6.908, 0.001)]
)
def test_the_printed_loss_has_no_floor(d, literal, fixed):
    logit = torch.tensor(math.log(d / (1 - d)))
    assert rejection(logit, reading=Reading.literal).item() == pytest.approx(literal, abs=5e-4)
    assert rejection(logit).item() == pytest.approx(fixed, abs=5e-4)


def fall(reading, steps=2000, rate=0.1):
    """Where the logit of a made one ends that nobody defends, and how hard it is pushed there; descent from 0, `steps * rate` long."""
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        (push,) = torch.autograd.grad(rejection(logit, reading=reading), logit)
        with torch.no_grad():
            logit -= rate * push
    return logit.item(), push.item()


def test_the_literal_reading_runs_away_and_the_fixed_one_does_not():
    t = 200
    literal, fixed = fall(Reading.literal), fall(Reading.fixed)
    # of dl/dt = -sigma(-l) and dl/dt = -sigma(l), from l = 0: W is Lambert's function
    assert literal[0] == pytest.approx(1 - t - lambertw(math.exp(1 - t)).real, rel=0.005) and literal[1] == pytest.approx(1)
    assert fixed[0] == pytest.approx(-math.log(t), abs=0.05) and fixed[1] < 0.006


def play(reading, rate=0.1, gamma=0.0, rounds=1500, start=(1.0, 0.0)):
    """The smallest GAN: real at 0, made at x, logit a x; both players move at once. Distance of (x, a) from (0, 0), at every step."""
    x, a = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start)
    distance = []
    for _ in range(rounds):
        price = gamma / 2 * a.square()  # of the slope at the real point: r1_penalty
        (of_a,) = torch.autograd.grad(energy(a * 0) + rejection(a * x.detach(), reading=reading) + price, a)
        (of_x,) = torch.autograd.grad(energy(a.detach() * x), x)
        with torch.no_grad():
            x -= rate * of_x
            a -= rate * of_a
        distance.append(math.hypot(x.item(), a.item()))
    return distance


def test_in_the_smallest_game_the_literal_reading_spirals_out_the_fixed_one_stays_and_the_penalty_ends_it():
    literal, fixed, held = play(Reading.literal), play(Reading.fixed), play(Reading.fixed, gamma=1.0)
    assert literal[-1] > 2.5 and literal[-1] > literal[len(literal) // 2] > literal[0]
    assert max(fixed) < 1.1 and fixed[-1] == pytest.approx((2 * 0.1) ** 0.5, rel=0.15), "a circle whose radius is the root of two steps"
    assert held[-1] < 1e-6


def test_r1_penalty_is_the_square_of_the_slope_at_the_real_ones():
    real = torch.randn(6, 2, 3, generator=seeded())
    across = torch.randn(6, generator=seeded(1))
    torch.testing.assert_close(r1_penalty(lambda x: x.flatten(1) @ across, real), across.square().sum())
    torch.testing.assert_close(r1_penalty(lambda x: x.square().sum(dim=(1, 2)), real), 4 * real.square().sum(dim=(1, 2)).mean())
    scale = torch.tensor(3.0, requires_grad=True)
    penalty = r1_penalty(lambda x: scale * x.flatten(1).mean(dim=1), real)
    torch.testing.assert_close(torch.autograd.grad(penalty, scale)[0], 2 * scale.detach() / 6)


def test_began_weighs_what_is_made_and_lets_go_of_it():
    real, fake = torch.tensor([1.0, 3.0], requires_grad=True), torch.tensor([4.0, 6.0], requires_grad=True)
    assert began_discriminator(real, fake, 0.2) == 2 - 0.2 * 5
    of_real, of_fake = torch.autograd.grad(began_discriminator(real, fake, 0.2), (real, fake))
    assert (of_real == 0.5).all() and torch.allclose(of_fake, torch.tensor(-0.1)), "it gives real ones back better, made ones worse"
    assert began_balance(0.3, 2.0, 0.5, gamma=0.5, rate=0.1) == pytest.approx(0.35), "made ones too good: push harder"
    assert began_balance(0.3, 2.0, 4.0, gamma=0.5, rate=0.1) == 0 and began_balance(0.99, 9.0, 0.0, rate=1.0) == 1, "it stays in [0, 1]"
    k, error = 1.0, 0.0
    for _ in range(400):  # nobody defends what is made: its error grows at the rate k, until k is 0
        error += 0.1 * k
        k = began_balance(k, 1.0, error, gamma=0.5, rate=0.01)
    assert k == 0 and error < 10, "the same form as the literal reading, and it stops"
