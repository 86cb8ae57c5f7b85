"""Feature networks: ours on its scale, VGG19 from torchvision's file layer by layer, and which side feature matching moves."""
import pickle

import pytest
import torch
from stand_ins import seeded
from torch import nn

from facelab.blocks import FeatureNetwork, feature_matching, load_weights, save_weights, shipped, vgg19_features
from facelab.blocks.features import TRUTHS, Config
from facelab.core import AssetError, MissingTruthError
from facelab.faces import FaceBatch, FaceWorld

CONVOLUTIONS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 512, 512, "pool", 512, 512, 512, 512, "pool")


@pytest.fixture(scope="module")
def image():
    return torch.rand(4, 3, 32, 32, generator=seeded()) * 2 - 1


@pytest.fixture(scope="module")
def vgg19():
    """torchvision's VGG19 as it is built there, up to the last convolution, at random."""
    torch.manual_seed(0)
    layers, before = [], 3
    for item in CONVOLUTIONS:
        if item == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, item, 3, padding=1), nn.ReLU()]
            before = item
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def vgg19_file(vgg19, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = {f"features.{name}": value for name, value in vgg19.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, path)
    return path


# --- ours ------------------------------------------------------------------------------------------------------------------------

def test_four_stages_halve_and_double():
    maps = FeatureNetwork(Config(width=4, truths=1))(torch.zeros(2, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 32, 32), (2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)]


def test_calibration_brings_every_stage_to_one_and_keeps_what_is_read(image):
    network = FeatureNetwork(Config(width=4, truths=5))
    before = network.readings(image)
    network.calibrate(image)
    torch.testing.assert_close(torch.stack([m.abs().mean() for m in network(image)]), torch.ones(4))
    torch.testing.assert_close(network.readings(image), before)
    network.calibrate(image)
    torch.testing.assert_close(torch.stack([m.abs().mean() for m in network(image)]), torch.ones(4))


def test_what_has_graduated_sees_the_same_and_reads_no_more(image, tmp_path):
    network = FeatureNetwork(Config(width=4, truths=5)).eval()
    network.calibrate(image)
    before = network(image)
    network.graduate()
    save_weights(network, tmp_path / "f.safetensors", {})
    again = load_weights(FeatureNetwork, Config, tmp_path / "f.safetensors")
    assert all(torch.allclose(a, b, atol=2e-2, rtol=2e-2) for a, b in zip(again(image), before, strict=True))
    assert again.config.truths == 0 and not [name for name in again.state_dict() if name.startswith("read")]


def test_it_learns_to_read_the_renderers_numbers():
    torch.manual_seed(0)
    faces = FaceWorld(3).sample(8, size=16)
    truths = FeatureNetwork.truths(faces)
    assert truths.shape == (8, sum(getattr(faces, name)[0].numel() for name in TRUTHS))
    network = FeatureNetwork(Config(size=16, width=4, truths=truths.shape[1]))
    network.standardise(faces)
    batch = network.draw(faces, 6, seeded(1))
    again = network.draw(faces, 6, seeded(1))
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["truth"].shape == (6, truths.shape[1])
    optimizer = torch.optim.Adam(network.players()["features"], 3e-3)
    losses = []
    for _ in range(40):
        loss = sum(network.losses(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_shipped_features_are_calibrated_on_people_they_never_saw():
    network = load_weights(FeatureNetwork, Config, shipped("features"))
    image = FaceWorld(0).sample(32, size=network.config.size, start=400).image
    with torch.no_grad():
        assert all(0.8 < m.abs().mean() < 1.25 for m in network(image))


# --- VGG19 -----------------------------------------------------------------------------------------------------------------------

def test_vgg19_gives_torchvisions_five_relus(vgg19, vgg19_file, image):
    network = vgg19_features(vgg19_file)
    x = ((image + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    wanted = []
    with torch.no_grad():
        for i, layer in enumerate(vgg19):
            x = layer(x)
            if i in (3, 8, 17, 26, 31):  # relu 1_2, 2_2, 3_4, 4_4, 5_2
                wanted.append(x)
    found = network(image)
    assert [m.shape[1] for m in found] == [64, 128, 256, 512, 512]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_missing_foreign_and_truncated_files_are_named(vgg19_file, tmp_path):
    with pytest.raises(AssetError, match="vgg19-dcbb9e9d.pth"):
        vgg19_features(tmp_path / "none.pth")
    foreign = tmp_path / "foreign.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, foreign)
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(vgg19_file.read_bytes()[:100_000])
    thin = tmp_path / "thin.pth"
    torch.save({key: torch.zeros(1) for key in torch.load(vgg19_file, weights_only=True)}, thin)
    for path in (foreign, truncated, thin):
        with pytest.raises(AssetError, match="does not hold torchvision's VGG19"):
            vgg19_features(path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_no_code_in_a_file_is_run(tmp_path, save):
    save({"features.0.weight": Trap(str(tmp_path / "ran"))}, tmp_path / "evil.pth")
    with pytest.raises(AssetError):
        vgg19_features(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


# --- matching --------------------------------------------------------------------------------------------------------------------

def test_feature_matching_is_a_weighted_mean_distance():
    network = lambda x: [x, 2 * x[..., ::2, ::2]]  # noqa: E731
    a, b = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert feature_matching(network, a, b, (1.0, 0.1)).item() == pytest.approx(1.0 * 0.5 + 0.1 * 1.0)
    assert feature_matching(network, a, a, (1.0, 0.1)).item() == 0
    with pytest.raises(ValueError):
        feature_matching(network, a, b, (1.0, 0.1, 0.1))


def test_no_gradient_reaches_the_target(image):
    network = FeatureNetwork(Config(width=4, truths=1)).requires_grad_(False)
    made, target = image.clone().requires_grad_(), image.flip(0).requires_grad_()
    feature_matching(network, made, target, (1.0,) * 4).backward()
    assert made.grad.abs().sum() > 0 and target.grad is None


def test_truths_of_a_photograph_are_missed_by_name(image):
    with pytest.raises(MissingTruthError, match="pose"):
        FeatureNetwork.truths(FaceBatch(image))
