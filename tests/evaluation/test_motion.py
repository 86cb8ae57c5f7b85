"""Measures of a reenactment, by hand; and dlib's identities, which tell strangers from friends."""
import math

import pytest
import torch

from facelab.core import ShapeError, assets_folder
from facelab.evaluation import (
    DlibIdentity,
    activation_agreement,
    averages,
    identity_similarity,
    judge,
    landmark_mae,
    mae,
    mse,
    paired_difference,
    pose_rmse,
    psnr,
    reenactment,
)
from facelab.faces import FaceWorld
from facelab.faces.photos import prepare_picture
from facelab.faces.photos.read import read_picture


def test_by_hand():
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    torch.testing.assert_close(identity_similarity(a, torch.tensor([[6.0, 8.0], [0.0, 2.0]])), torch.tensor([1.0, 0.0]))
    pose = torch.zeros(2, 3)
    turned = pose + torch.tensor([[math.radians(3), 0, 0], [0, math.radians(-3), 0]])
    assert pose_rmse(turned, pose) == pytest.approx(math.sqrt(18 / 6))
    on = torch.tensor([[0.9, 0.1, 0.3, 0.0]])
    assert activation_agreement(on, torch.tensor([[0.5, 0.3, 0.26, -1.0]])).item() == 0.75
    assert activation_agreement(on, torch.tensor([[0.5, 0.3, 0.26, -1.0]]), 0.05).item() == 1.0
    assert activation_agreement(on, torch.tensor([[0.5, 0.3, 0.26, -1.0]]), 0.28).item() == 0.5
    marks = torch.zeros(1, 68, 2)
    assert landmark_mae(marks + torch.tensor([1.28, 0.0]), marks, 128).item() == pytest.approx(0.005)
    black, grey = torch.full((1, 3, 4, 4), -1.0), torch.zeros(1, 3, 4, 4)
    assert mae(black, grey).item() == 0.5 and mse(black, grey).item() == 0.25
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2] = 1
    assert mae(torch.cat([black[..., :2], grey[..., :2]], dim=3), grey, half).item() == 0.5


@pytest.mark.parametrize("measure", [identity_similarity, pose_rmse, activation_agreement, lambda a, b: landmark_mae(a, b, 8)])
def test_wrong_values_are_named(measure):
    with pytest.raises(ShapeError, match="one shape"):
        measure(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ShapeError, match="finite"):
        measure(torch.full((2, 3), torch.nan), torch.zeros(2, 3))


def test_dlib_knows_people_from_photographs():
    pytest.importorskip("dlib")
    folder = assets_folder() / "london_set"
    if not folder.is_dir():
        pytest.skip("needs the London photographs, see FACELAB_ASSETS")
    names = sorted(path.name[:3] for path in (folder / "neutral_front").glob("*.jpg"))[:4]
    sets = []
    for mood, code in (("neutral_front", "03"), ("smiling_front", "08")):
        faces = [prepare_picture(read_picture(folder / mood / f"{name}_{code}.jpg"), 150, "dlib") for name in names]
        sets.append(DlibIdentity().features(torch.cat([f.image for f in faces]), torch.cat([f.landmarks for f in faces])))
    apart = torch.cdist(*sets)
    assert apart.diagonal().max() < 0.6 and apart[~torch.eye(4, dtype=torch.bool)].min() > apart.diagonal().max()
    with pytest.raises(ShapeError, match="68"):
        DlibIdentity().features(torch.zeros(1, 3, 64, 64), torch.zeros(1, 5, 2))


def test_the_truth_and_the_source_in_the_columns_of_the_tables():
    world, network = FaceWorld(0), judge()
    pair = world.sample(8, size=64, sitting=2, still=False)
    source, target = pair[::2], pair[1::2]
    some = torch.zeros(4, 1, 64, 64)
    some[1:, :, 20:40, 20:40] = 1
    found = reenactment(target.image, target.image, network, {"box": some})
    assert all(value.shape == (4,) for value in found.values()) and found["PSNR, box"].isnan().tolist() == [True, False, False, False]
    nowhere = averages(reenactment(target.image, target.image, network, {"nowhere": torch.zeros(4, 1, 64, 64)}))
    assert math.isnan(nowhere["PSNR, nowhere"]) and nowhere["PSNR"] == 120
    best = averages(found)
    assert best["PSNR"] == 120 and best["PSNR, box"] == 120 and best["CSIM"] == pytest.approx(1) and best["AUCON"] == 1
    assert best["MAE"] == best["MSE"] == best["PRMSE"] == best["LMAE"] == 0 and best["SSIM"] == pytest.approx(1)
    copied = averages(reenactment(source.image, target.image, network, {"box": some}))
    assert copied["PSNR"] < 25 and copied["PRMSE"] > 5 and copied["LMAE"] > 0.01 and copied["AUCON"] < 1
    assert copied["PRMSE"] == pytest.approx(pose_rmse(network.look(source.image).pose, network.look(target.image).pose), rel=1e-4)
    inside = psnr(source.image[1:], target.image[1:], some[1:]).mean().item()
    assert copied["PSNR, box"] == pytest.approx(inside)


def test_a_paired_difference_and_how_sure_it_is():
    generator = torch.Generator().manual_seed(0)
    people = 10 * torch.randn(200, generator=generator)  # far apart, whatever is measured of them
    a, b = people + 1 + 0.5 * torch.randn(200, generator=generator), people.clone()
    b[:3] = torch.nan
    mean, low, high = paired_difference(a, b)
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(197), rel=0.2) and low < 1 < high
    assert paired_difference(a, b) == (mean, low, high)
    assert paired_difference(a, a) == (0.0, 0.0, 0.0) and paired_difference(torch.ones(2), torch.zeros(2)) == (1.0, 1.0, 1.0)
    for wrong in (b[:10], torch.full((200,), torch.nan)):
        with pytest.raises(ShapeError, match="two pictures"):
            paired_difference(a, wrong)
