"""GAN objectives: which way each one pushes, and the penalty against slopes that are known."""
import torch
from stand_ins import seeded

from facelab.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator


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
