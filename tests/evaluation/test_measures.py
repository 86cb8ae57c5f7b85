"""Measures against torchmetrics, scikit-image, scipy, closed forms and cases made by hand; what is wrong with an input is named."""
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg
from skimage import measure, metrics
from stand_ins import seeded
from torch import nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from facelab.core import AssetError, MissingTruthError, ShapeError
from facelab.evaluation import (
    diversity,
    face_features,
    frechet,
    frechet_distance,
    gradient_energy,
    histogram_entropy,
    inception,
    inception_score,
    inter_ocular,
    landmark_error,
    linear_probe,
    mobilenet_v2,
    psnr,
    ssim,
)
from facelab.evaluation.features import _Inception, _MobileNetV2
from facelab.faces import FaceBatch, FaceWorld


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed)) * 2 - 1


@pytest.fixture(scope="module")
def pair():
    """Four smooth pictures in [-1, 1] and the same with noise."""
    smooth = nn.functional.interpolate(noise(4, 3, 6, 6), size=48, mode="bicubic", align_corners=True).clamp(-1, 1)
    return smooth, (smooth + 0.3 * noise(4, 3, 48, 48, seed=1)).clamp(-1, 1)


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(4, 1, 48, 48)
    mask[:, :, 10:30, 15:40] = 1
    return mask


# --- one picture -----------------------------------------------------------------------------------------------------------------

def test_psnr_is_torchmetrics_and_a_half_is_six_decibels(pair):
    found = psnr(*pair)
    theirs = peak_signal_noise_ratio(*((p + 1) / 2 for p in pair), data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(found, theirs)
    assert psnr(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)).item() == pytest.approx(20 * math.log10(2), abs=1e-5)
    assert psnr(pair[0], pair[0]).tolist() == pytest.approx([120] * 4)


def test_psnr_inside_a_mask_is_that_of_the_part(pair, mask):
    cut = [p[:, :, 10:30, 15:40] for p in pair]
    torch.testing.assert_close(psnr(*pair, mask), psnr(*cut))
    torch.testing.assert_close(psnr(*pair, mask.bool()), psnr(*cut))
    assert not torch.allclose(psnr(*pair, mask), psnr(*pair))


def test_ssim_is_torchmetrics_and_scikit_image(pair):
    zero_to_one = [(p + 1) / 2 for p in pair]
    found = ssim(*pair)
    torch.testing.assert_close(found, structural_similarity_index_measure(*zero_to_one, data_range=1.0, reduction="none"))
    inner = torch.zeros(4, 1, 48, 48)
    inner[:, :, 5:-5, 5:-5] = 1
    for i, value in enumerate(ssim(*pair, inner)):
        theirs = metrics.structural_similarity(
            *(p[i].numpy() for p in zero_to_one), channel_axis=0, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
        )
        assert value.item() == pytest.approx(theirs, abs=1e-4)
    assert ssim(pair[0], pair[0]).tolist() == pytest.approx([1] * 4)


def test_ssim_in_a_mask_sees_only_what_is_near(pair, mask):
    spoilt = pair[1].clone()
    spoilt[:, :, :, 46:] = -1  # six pixels away from the mask: out of the window's reach
    torch.testing.assert_close(ssim(pair[0], spoilt, mask), ssim(*pair, mask))
    assert (ssim(pair[0], spoilt) - ssim(*pair)).abs().max() > 1e-3


def test_gradient_energy_of_stripes_a_ramp_and_inside_a_mask():
    stripes = torch.ones(1, 3, 8, 8)
    stripes[..., ::2] = -1  # every pair across differs by 1 in grey, none down: half the pairs
    ramp = torch.linspace(-1, 1, 9).expand(1, 3, 8, 9)
    assert gradient_energy(stripes).item() == pytest.approx(0.5)
    assert gradient_energy(ramp).item() == pytest.approx(64 * (1 / 8) ** 2 / (64 + 63))
    edge = torch.ones(1, 3, 8, 8)
    edge[..., :4] = -1
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1  # the step lies on the mask's border: its pair is not whole
    assert gradient_energy(edge, left).item() == 0 and gradient_energy(edge).item() == pytest.approx(8 / 112)
    one = torch.zeros(1, 1, 8, 8)
    one[..., 3, 3] = 1
    with pytest.raises(ShapeError, match="neighbouring"):
        gradient_energy(edge, one)


def test_gradient_energy_falls_when_a_picture_is_blurred_and_weighs_colours_as_eyes_do(pair):
    sharp = pair[1]
    blurred = nn.functional.avg_pool2d(nn.functional.pad(sharp, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    assert (gradient_energy(blurred) < 0.5 * gradient_energy(sharp)).all()
    one = -torch.ones(3, 3, 8, 8)
    for colour in range(3):
        one[colour, colour, :, ::2] = 1
    assert gradient_energy(one).sqrt().tolist() == pytest.approx([v / math.sqrt(2) for v in (0.299, 0.587, 0.114)], abs=1e-6)


def test_histogram_entropy_is_scikit_images_of_pillows_grey(pair):
    levels = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 127.5 - 1
    assert histogram_entropy(levels).item() == pytest.approx(8, abs=1e-6)
    assert histogram_entropy(torch.zeros(1, 3, 4, 4)).item() == 0
    halves = torch.ones(1, 3, 4, 4)
    halves[..., :2] = -1
    assert histogram_entropy(halves).item() == pytest.approx(1)
    eight_bit = ((pair[1] + 1) * 127.5).round()
    for value, picture in zip(histogram_entropy(eight_bit / 127.5 - 1), eight_bit, strict=True):
        grey = Image.fromarray(picture.permute(1, 2, 0).byte().numpy()).convert("L")
        assert value.item() == pytest.approx(measure.shannon_entropy(np.asarray(grey)), abs=0.02)


@pytest.mark.parametrize("function", [psnr, ssim, gradient_energy, histogram_entropy])
def test_wrong_pictures_are_named(function):
    good = torch.zeros(2, 3, 16, 16)
    takes_two = function in (psnr, ssim)
    for bad, says in [
        (torch.zeros(3, 16, 16), "N, 3, H, W"), (torch.zeros(2, 1, 16, 16), "N, 3, H, W"), (torch.zeros(0, 3, 16, 16), "N, 3, H, W"),
        (good + torch.nan, "finite"), (good + 255, r"\[-1, 1\]"), (good.byte(), "uint8"), (good + torch.inf, r"\[-1, 1\]"),
    ]:  # fmt: skip
        with pytest.raises(ShapeError, match=says):
            function(bad, bad) if takes_two else function(bad)
    if takes_two:
        with pytest.raises(ShapeError, match="all alike"):
            function(good, good[:1])
    if function is not histogram_entropy:
        arguments = (good, good) if takes_two else (good,)
        full = torch.ones(2, 1, 16, 16)
        for mask, says in [(0 * full, "hold some pixels"), (full.expand(2, 3, 16, 16), "mask must be"), (255 * full, r"\[0, 1\]"),
                           (full * torch.nan, r"\[0, 1\]")]:  # fmt: skip
            with pytest.raises(ShapeError, match=says):
                function(*arguments, mask)
    if function is ssim:
        with pytest.raises(ShapeError, match="11 pixels"):
            ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


# --- landmarks -------------------------------------------------------------------------------------------------------------------

def test_landmark_error_by_hand():
    true = noise(2, 68, 2) * 10
    shift = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert landmark_error(true + shift[:, None], true, torch.tensor([20.0, 10.0])).tolist() == pytest.approx([0.25, 0.1], abs=1e-5)
    one = torch.ones(2)
    for bad in [(true[:1], true, one), (true, true, one[:, None]), (true, true, 0 * one), (true * torch.nan, true, one)]:
        with pytest.raises(ShapeError):
            landmark_error(*bad)


def test_inter_ocular_distance_does_not_shrink_in_profile():
    world = FaceWorld(3)
    front = world.sample(4, size=32, yaw=(0, 0), pitch=(0, 0), roll=(0, 0))
    turned = world.rerender(front, pose=front.pose + torch.tensor([math.radians(80), 0.0, 0.0]))
    torch.testing.assert_close(inter_ocular(turned), inter_ocular(front), rtol=1e-4, atol=1e-4)
    photo, profile = (FaceBatch(b.image, landmarks=b.landmarks) for b in (front, turned))
    torch.testing.assert_close(inter_ocular(photo), inter_ocular(front), rtol=0.03, atol=0.1)  # seen from the front: the same distance
    assert (inter_ocular(profile) < 0.5 * inter_ocular(turned)).all()
    with pytest.raises(MissingTruthError):
        inter_ocular(FaceBatch(front.image))


# --- sets ------------------------------------------------------------------------------------------------------------------------

def whitened(n, d, seed=0):
    """Samples whose mean is 0 and whose covariance is the identity, exactly."""
    x = torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_frechet_distance_of_known_gaussians():
    x, d = whitened(200, 5), 5
    shift, scale = torch.arange(5.0, dtype=torch.float64), torch.tensor([1, 2, 0.5, 3, 1.0], dtype=torch.float64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + shift) == pytest.approx(30, abs=1e-9)
    assert frechet_distance(x, scale * x + shift) == pytest.approx(30 + ((scale - 1) ** 2).sum().item(), abs=1e-9)
    assert frechet_distance(2 * x, whitened(100, d, seed=1)) == pytest.approx(d, abs=1e-9)  # (2 - 1)^2 in every direction


def test_frechet_distance_is_scipys_matrix_root_where_covariances_do_not_commute():
    mix = torch.randn(2, 6, 6, generator=seeded(2), dtype=torch.float64)
    a, b = whitened(300, 6) @ mix[0], whitened(300, 6, seed=1) @ mix[1] + 1
    cov_a, cov_b = (torch.cov(x.T).numpy() for x in (a, b))
    theirs = 6 + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(theirs, rel=1e-8)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(theirs, rel=1e-4)


def test_frechet_distance_warns_of_few_samples_and_survives_singular_ones():
    few = whitened(200, 5)[:4]
    with pytest.warns(UserWarning, match="4 samples in 5 dimensions"):
        assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    flat = whitened(200, 5) * torch.tensor([1.0, 1, 0, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frechet_distance(flat, whitened(200, 5)) == pytest.approx(2, abs=1e-6)
    for bad in [(few, few[:, :3]), (few[0], few[0]), (few[:1], few), (few * torch.nan, few)]:
        with pytest.raises(ShapeError):
            frechet_distance(*bad)


class Grey:
    """Features one can work out: the mean of each colour."""

    def __init__(self, name):
        self.name = name

    def features(self, image):
        return image.mean(dim=(2, 3))


def test_a_distance_is_named_for_its_features():
    a, b = noise(50, 3, 4, 4) * 0.5, noise(50, 3, 4, 4, seed=1) * 0.5 + 0.25
    name, value = frechet(a, b, Grey("Inception"))
    assert name == "FID" and value == frechet_distance(a.mean(dim=(2, 3)), b.mean(dim=(2, 3)))
    assert frechet(a, b, Grey("judge"))[0] == "FD (judge)"
    assert value == pytest.approx(3 * 0.25**2, rel=0.25)
    with pytest.raises(ShapeError, match="-1, 1"):
        frechet(a, b * 255, Grey("judge"))


def test_inception_score_between_one_and_the_number_of_classes():
    sure = torch.eye(4).repeat(25, 1)
    assert inception_score(sure, splits=1) == pytest.approx((4, 0, math.log(4)), abs=1e-6)
    assert inception_score(torch.full((30, 4), 0.25)) == pytest.approx((1, 0, 0), abs=1e-9)
    assert inception_score(sure[::4])[0] == pytest.approx(1)  # decided, but always the same
    tilted = torch.tensor([[0.9, 0.1], [0.1, 0.9]])  # exp(log 2 - H(0.9))
    assert inception_score(tilted, splits=1).score == pytest.approx(2 * math.exp(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), abs=1e-6)
    halves = torch.cat([sure[:40], sure[:1].expand(40, 4)])
    assert inception_score(halves, splits=2) == pytest.approx((2.5, 1.5, math.log(4) / 2), abs=1e-6)
    drawn = (10 * torch.randn(64, 10, generator=seeded())).softmax(dim=1)
    assert 1 <= inception_score(drawn).score <= 10
    for bad in [torch.randn(20, 4), torch.ones(20, 4), torch.full((20, 4), torch.nan), sure[:5], sure[0]]:
        with pytest.raises(ShapeError):
            inception_score(bad)


def test_diversity_by_hand():
    samples = torch.zeros(2, 3, 3, 4, 4)
    samples[1, 1], samples[1, 2] = 1, -1  # pairs 1, 1 and 2 apart
    assert diversity(samples).tolist() == pytest.approx([0, 4 / 3])
    assert diversity(torch.randn(1, 400, 50, generator=seeded())).item() == pytest.approx(math.sqrt(2), rel=0.02)
    for bad in [samples[:, :1], samples[:, 0, 0, 0], samples * torch.nan]:
        with pytest.raises(ShapeError):
            diversity(bad)


# --- probes ----------------------------------------------------------------------------------------------------------------------

def test_a_probe_reads_what_is_there_and_nothing_else():
    codes = torch.randn(400, 10, generator=seeded())
    numbers = codes @ torch.randn(10, 2, generator=seeded(1)) + 0.1 * torch.randn(400, 2, generator=seeded(2))
    other = torch.randn(400, 2, generator=seeded(3))
    assert linear_probe(codes, numbers).score > 0.98 and linear_probe(codes, numbers).chance == 0
    assert -0.15 < linear_probe(codes, other).score < 0.05
    labels = (codes[:, 0] > -0.5).long()
    read = linear_probe(codes, labels)
    assert read.score > 0.95 and read.chance == pytest.approx(labels.float().mean().item(), abs=0.01)
    unread = linear_probe(codes, (other[:, 0] > -0.5).long())
    assert abs(unread.score - unread.chance) < 0.03


def test_a_probe_by_groups_does_not_know_people_by_heart():
    people = torch.arange(40).repeat_interleave(10)
    codes = torch.randn(40, 60, generator=seeded())[people] + 0.01 * torch.randn(400, 60, generator=seeded(1))
    height = torch.randn(40, generator=seeded(2))[people]  # nothing in the codes says it, but each person's codes are alike
    assert linear_probe(codes, height).score > 0.9
    assert linear_probe(codes, height, people).score < 0.1


def test_wrong_probes_are_named():
    codes, labels = torch.randn(20, 3), torch.arange(20) % 2
    for arguments in [(codes[0], labels), (codes, labels[:10]), (codes * torch.nan, labels), (codes, labels, labels[:3])]:
        with pytest.raises(ShapeError):
            linear_probe(*arguments)
    for arguments in [(codes, torch.arange(20)), (codes, codes[:, 0], labels)]:
        with pytest.raises(ShapeError, match="5 folds need"):
            linear_probe(*arguments)


# --- feature networks ------------------------------------------------------------------------------------------------------------

def test_our_features_do_not_depend_on_the_batch():
    network, image = face_features(), noise(5, 3, 32, 32)
    found = network.features(image)
    assert found.shape == (5, 240) and network.name == "FaceWorld features"
    torch.testing.assert_close(network.features(image, batch=2), found, rtol=1e-4, atol=1e-5)


CLASSIFIERS = {"mobilenet_v2": (mobilenet_v2, _MobileNetV2, 1280, 1000), "inception": (inception, _Inception, 2048, 1008)}


@pytest.fixture(scope="module", params=CLASSIFIERS.values(), ids=CLASSIFIERS)
def classifier(request, tmp_path_factory):
    """A classifier from a file of random weights of the published layout."""
    open_, network, features, classes = request.param
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network().state_dict(), path)
    return open_, path, features, classes


def test_classifiers_read_their_file(classifier):
    open_, path, features, classes = classifier
    network = open_(path)
    image = noise(2, 3, 40, 40)
    found, answers = network.features(image), network.probabilities(image)
    assert found.shape == (2, features) and answers.shape == (2, classes) and not network.training
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(2))
    assert network.name == ("Inception" if features == 2048 else "MobileNetV2")


def test_missing_foreign_and_truncated_weights_are_named(classifier, tmp_path, monkeypatch):
    open_, path, *_ = classifier
    monkeypatch.setenv("FACELAB_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=str(tmp_path)):
        open_()
    broken = tmp_path / "broken.pth"
    broken.write_bytes(path.read_bytes()[:100_000])
    foreign = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, foreign)
    for file in (broken, foreign):
        with pytest.raises(AssetError, match="does not hold"):
            open_(file)


def test_state_dicts_have_the_published_names_and_sizes():
    """Number of tensors and parameters of torchvision's mobilenet_v2, and of pytorch-fid's Inception (1008 classes, no auxiliary head)."""
    mobile, inc = _MobileNetV2(), _Inception()
    assert len(mobile.state_dict()) == 314 and sum(p.numel() for p in mobile.parameters()) == 3_504_872
    assert {"features.1.conv.1.weight", "features.17.conv.3.running_var", "classifier.1.bias"} <= set(mobile.state_dict())
    assert {"Mixed_7c.branch3x3dbl_3b.bn.running_var", "Mixed_6a.branch3x3.conv.weight", "fc.bias"} <= set(inc.state_dict())
    assert inc.state_dict()["Mixed_7c.branch_pool.conv.weight"].shape == (192, 2048, 1, 1)
