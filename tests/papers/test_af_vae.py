"""What only AF-VAE has: weight normalisation, sub-pixel convolution, feature matching, and the switches of Table 3."""
import pytest
import torch
from stand_ins import seeded, smooth_faces
from torch import nn

from facelab.blocks import FeatureNetwork, feature_matching, near_lines, save_weights
from facelab.blocks.features import Config as FeatureConfig
from facelab.core import AssetError
from facelab.papers import af_vae
from facelab.papers.af_vae import Config, Model

SMALL = {"size": 16, "width": 8, "most": 16, "code": 8, "clusters": 4}


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return FeatureNetwork(FeatureConfig(width=4, truths=3)).requires_grad_(False)


def prepared(features, **changes):
    torch.manual_seed(0)
    model = Model(Config(**{**SMALL, **changes}), features)
    model.prepare(smooth_faces(), seeded(1))
    return model


def test_every_convolution_is_weight_normalised_and_none_batch_normalised():
    model = Model(Config(**SMALL))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions and all(hasattr(m, "parametrizations") for m in convolutions)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ConvTranspose2d) for m in model.modules())
    assert sum(isinstance(m, nn.PixelShuffle) for m in model.modules()) == 2  # every upsampling: 4 to 8, 8 to 16


def test_table_threes_switches():
    batch_norm, transposed = Model(Config(**SMALL, norm="batch")), Model(Config(**SMALL, up="transposed"))
    assert any(isinstance(m, nn.BatchNorm2d) for m in batch_norm.modules())
    assert not any("parametrizations" in name for name, _ in batch_norm.named_parameters())
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in transposed.modules()) == 2
    assert not any(isinstance(m, nn.PixelShuffle) for m in transposed.modules())


def test_terms_go_with_their_weights(features):
    faces = smooth_faces()
    batch = prepared(features).draw(faces, 4, seeded(2))
    assert set(prepared(features).losses(batch)) == {"pixels", "features", "kl"}
    assert set(prepared(features, kl_weight=0.0).losses(batch)) == {"pixels", "features"}
    assert set(prepared(None, feature_weights=()).losses(batch)) == {"pixels", "kl"}


def test_features_count_in_the_unit_of_pixels(features):
    model = prepared(features)
    batch = model.draw(smooth_faces(), 4, seeded(2))
    mean, log_var = model.encode(batch["image"])
    made = model.decode(mean + batch["noise"] * (log_var / 2).exp(), batch["boundary"])
    near = near_lines(batch["boundary"], model.config.focus)
    wanted = 3 * 16 * 16 * feature_matching(features, made, batch["image"], model.config.feature_weights, near)
    torch.testing.assert_close(model.losses(batch)["features"], wanted, rtol=1e-4, atol=1e-3)


def test_the_feature_network_is_a_measure_and_no_part_of_the_model(features):
    model = prepared(features)
    before = {name: value.clone() for name, value in features.state_dict().items()}
    own = {id(p) for p in features.parameters()}
    assert not own & {id(p) for p in model.players()["autoencoder"]}
    sum(model.losses(model.draw(smooth_faces(), 4, seeded(2))).values()).backward()
    assert all(p.grad is None for p in features.parameters())
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())


def test_the_packages_own_features_are_opened_when_they_are_needed(tmp_path, monkeypatch, features):
    path = tmp_path / "features.safetensors"
    monkeypatch.setattr(af_vae, "shipped", lambda name: path)
    model = prepared(None)  # nothing is opened to build it
    batch = model.draw(smooth_faces(), 4, seeded(2))
    with pytest.raises(AssetError, match="features.safetensors"):
        model.losses(batch)
    save_weights(features, path, {})
    assert model.losses(batch)["features"] > 0
    assert not any(p.requires_grad for p in model.features.parameters())


def test_features_too_are_learnt_by_heart(features):
    model = prepared(features).train()
    batch = model.draw(smooth_faces()[:4], 8, seeded(2))
    optimizer = torch.optim.Adam(model.players()["autoencoder"], 5e-3)
    course = []
    for _ in range(60):
        terms = model.losses(batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        course.append({name: value.item() for name, value in terms.items()})
    assert all(course[-1][name] < 0.6 * course[0][name] for name in ("pixels", "features"))
