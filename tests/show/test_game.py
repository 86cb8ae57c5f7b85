"""The game stepper and the noise explorer without a browser: what they show is what the losses say, and every control redraws."""
import io

import numpy as np
import pytest
import torch
from PIL import Image

from facelab import show
from facelab.adversarial import energy, r1_penalty, rejection
from facelab.core import Reading, ShapeError


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("reading", list(Reading))
def test_the_stepper_plays_the_librarys_losses(reading, in_turn):
    path = show.GameStepper((0.8, -0.6)).play(5, rate=0.3, gamma=0.7, reading=reading, in_turn=in_turn)
    theta, psi = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (0.8, -0.6))
    real = torch.zeros(1, 1, dtype=torch.float64)
    for place in path[1:]:
        old = psi.detach().clone()
        price = 0.7 / 2 * r1_penalty(lambda x: x @ psi.float(), real).double()  # noqa: B023
        loss = energy(real @ psi) + rejection(theta.detach() @ psi, reading=reading) + price
        (of_psi,) = torch.autograd.grad(loss, psi)
        (of_theta,) = torch.autograd.grad(energy(theta @ (old - 0.3 * of_psi if in_turn else old)), theta)
        with torch.no_grad():
            theta -= 0.3 * of_theta
            psi -= 0.3 * of_psi
        np.testing.assert_allclose(place, [theta.item(), psi.item()], atol=1e-5)


def test_every_button_of_the_stepper_moves_the_picture():
    game = show.GameStepper()
    seen = [game._picture.value]
    game.step.click()
    seen.append(game._picture.value)
    assert len(game.path) == 2
    game.reading.value, game.turns.value, game.rate.value, game.gamma.value = "literal", "in turn", 0.5, 0.25
    game.run.click()
    seen.append(game._picture.value)
    assert len(game.path) == 2 + game.ROUNDS and len(set(seen)) == 3
    expected = game.play(game.ROUNDS, rate=0.5, gamma=0.25, reading=Reading.literal, in_turn=True, start=tuple(game.path[1]))
    np.testing.assert_array_equal(game.path[1:], expected)
    assert np.abs(pixels(seen[-1]) - game.draw(game.path)).mean() < 3
    game.again.click()
    assert game._picture.value == seen[0] and "facelab-game" in game.view._dom_classes
    with pytest.raises(ShapeError, match="a path is"):
        game.draw(np.zeros((4, 3)))
    assert game.draw(np.array([[1e9, -1e9]])).shape == (300, 600, 3), "a game that ran away is drawn at the edge"


def test_the_noise_explorer_shows_what_is_made_of_its_noise():
    def paint(z):
        return z[0, 0].expand(3, 8, 8), z[0, 1].expand(3, 8, 8)

    noise = torch.tensor([[0.5, -0.5, 0.0]])
    explorer = show.NoiseExplorer(noise, {"light": torch.tensor([1.0, 0, 0]), "dark": torch.tensor([0, -1.0, 0])}, paint)
    torch.testing.assert_close(explorer.at(light=0.25, dark=0.2), torch.tensor([[0.75, -0.7, 0.0]]))
    torch.testing.assert_close(explorer.at(light=1.0), torch.tensor([[1.0, -0.5, 0.0]]), msg="the cube's wall")
    drawn = explorer.draw(light=-0.5)
    side = explorer.SIDE
    assert drawn.shape == (side, 2 * side, 3) and abs(drawn[:, :side].mean() - 127.5) < 1 and abs(drawn[:, side:].mean() - 64) < 1
    before = explorer._picture.value
    explorer.sliders["light"].value = -0.5
    assert explorer._picture.value != before and np.abs(pixels(explorer._picture.value) - drawn).mean() < 3
    before = explorer._picture.value
    explorer.another.click()
    assert explorer._picture.value != before and explorer.noise.abs().max() <= 1 and "facelab-noise" in explorer.view._dom_classes
    with pytest.raises(ShapeError, match="no slider called up"):
        explorer.draw(up=1)
    for wrong in (torch.zeros(2, 3), torch.full((1, 3), 2.0), torch.zeros(1, 4)):
        with pytest.raises(ShapeError, match="noise is"):
            show.NoiseExplorer(wrong, {"light": torch.ones(3)}, paint)
