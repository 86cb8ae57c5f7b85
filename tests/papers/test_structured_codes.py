"""What the Equilibrium CVAE and AF-VAE have in common: one set of checks, run on both rooms."""
import math
from dataclasses import replace

import pytest
import torch
from stand_ins import seeded, smooth_faces
from torch import distributions as D

from facelab.blocks import load_weights, near_lines, save_weights
from facelab.core import AssetError, ShapeError
from facelab.geometry import boundary_map
from facelab.papers import af_vae, equilibrium_cvae

SMALL = {"size": 16, "width": 8, "most": 16, "code": 8, "clusters": 4}
PLAIN = {equilibrium_cvae: {}, af_vae: {"feature_weights": ()}}  # pixels and KL only


FACES = smooth_faces()


@pytest.fixture(params=[equilibrium_cvae, af_vae], ids=lambda room: room.__name__.rpartition(".")[2])
def room(request):
    return request.param


@pytest.fixture
def build(room):
    def build(faces=FACES, **changes):
        torch.manual_seed(0)
        model = room.Model(room.Config(**{**SMALL, **PLAIN[room], **changes}))
        model.prepare(faces, seeded(1))
        return model.eval()

    return build


@pytest.fixture
def model(build):
    return build()


def structures(faces=FACES, size=16):
    return boundary_map(faces.landmarks, size)


# --- what training sees ----------------------------------------------------------------------------------------------------------

class Watched:
    """Hands out pictures and landmarks; whoever asks for anything else is told that nobody knows."""

    def __init__(self, faces):
        self.faces, self.asked = faces, []

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, index):
        self.asked.append(torch.as_tensor(index))
        return self.faces[index]


def test_a_batch_is_pictures_with_their_own_structure(model):
    faces = Watched(FACES)
    batch = model.draw(faces, 6, seeded(3))
    assert set(batch) == {"image", "boundary", "noise"}
    (chosen,) = faces.asked
    assert torch.equal(batch["image"], FACES.image[chosen])
    torch.testing.assert_close(batch["boundary"], structures()[chosen])
    assert batch["noise"].shape == (6, 8)


def test_a_batch_is_a_pure_function_of_the_generator(model):
    once, torch_state = model.draw(FACES, 6, seeded(3)), torch.get_rng_state()
    torch.rand(5)
    again, other = model.draw(FACES, 6, seeded(3)), model.draw(FACES, 6, seeded(4))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["noise"], other["noise"])
    torch.set_rng_state(torch_state)
    model.draw(FACES, 6, seeded(3))
    assert torch.equal(torch.get_rng_state(), torch_state)  # torch's own generator is left alone


def test_preparing_is_a_pure_function_of_the_generator(room, build):
    one, other = build(), build()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert one.memory.centres.abs().sum() > 0
    assert {id(p) for p in one.players()["autoencoder"]} == {id(p) for p in one.parameters()}


# --- the bound -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("prior", ["unit", "additive"])
def test_kl_is_torch_distributions(build, prior):
    model = build(prior=prior, kl_weight=0.5)
    batch = model.draw(FACES, 6, seeded(3))
    mean, log_var = model.encode(batch["image"])
    placed = model.prior(batch["boundary"])
    q, p = D.Normal(mean, (log_var / 2).exp()), D.Normal(placed.mean, placed.scale.expand_as(mean) if prior == "additive" else placed.scale)
    assert (q.scale - p.scale).abs().min() > 1e-4  # a swap of the two would show
    torch.testing.assert_close(model.losses(batch)["kl"], 0.5 * D.kl_divergence(q, p).sum(1).mean(), rtol=1e-4, atol=1e-4)


def test_the_mixtures_kl_is_the_log_ratio_at_the_code_drawn(build):
    model = build(prior="mixture")
    batch = model.draw(FACES, 6, seeded(3))
    mean, log_var = model.encode(batch["image"])
    q = D.Normal(mean, (log_var / 2).exp())
    z = mean + batch["noise"] * q.scale
    w, mu, s = model.memory(batch["boundary"]), model.memory.means, model.memory.scales
    parts = D.Independent(D.Normal(mu, s[:, None].expand_as(mu)), 1)
    p = D.MixtureSameFamily(D.Categorical(w), D.Independent(D.Normal(mu.expand(6, -1, -1), parts.base_dist.scale), 1))
    wanted = (q.log_prob(z).sum(1) - p.log_prob(z)).mean()
    torch.testing.assert_close(model.losses(batch)["kl"], model.config.kl_weight * wanted, rtol=1e-4, atol=1e-3)


def test_pixels_are_a_sum_over_the_picture_and_a_mean_over_the_batch(build):
    model = build(focus=0.0)
    batch = model.draw(FACES, 6, seeded(3))
    mean, log_var = model.encode(batch["image"])
    made = model.decode(mean + batch["noise"] * (log_var / 2).exp(), batch["boundary"])
    by_hand = torch.stack([(a - b).abs().sum() for a, b in zip(made, batch["image"], strict=True)]).mean()
    torch.testing.assert_close(model.losses(batch)["pixels"], by_hand, rtol=1e-4, atol=1e-3)


def test_differences_near_the_lines_count_more(build):
    """The same difference, once inside a ring of lines and once in the corner."""
    boundary = torch.zeros(1, 1, 64, 64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    boundary[0, 0] = ((torch.hypot(x - 32, y - 32) - 8).abs() < 1).float()
    near = near_lines(boundary, 20.0)
    assert near.shape == boundary.shape and near.mean() == pytest.approx(1, abs=1e-5)
    assert near[0, 0, 24, 32] > 4 * near[0, 0, 4, 4] and near[0, 0, 4, 4] > 0
    torch.testing.assert_close(near_lines(boundary, 0.0), torch.ones_like(boundary))
    model = build(focus=20.0)
    batch = model.draw(FACES, 6, seeded(3))
    made = model(batch["image"], batch["boundary"], batch["noise"])[0]
    wanted = (near_lines(batch["boundary"], 20.0) * (made - batch["image"]).abs()).sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(model.losses(batch)["pixels"], wanted, rtol=1e-4, atol=1e-3)


def test_gradients_reach_every_weight(model):
    sum(model.losses(model.draw(FACES, 6, seeded(3))).values()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("prior", ["unit", "mixture", "additive"])
def test_four_pictures_are_learnt_by_heart(build, prior):
    model = build(prior=prior, kl_weight=0.1).train()
    batch = model.draw(FACES[:4], 8, seeded(3))
    optimizer = torch.optim.Adam(model.players()["autoencoder"], 5e-3)
    course = []
    for _ in range(80):
        terms = model.losses(batch)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        course.append({name: value.item() for name, value in terms.items()})
    assert course[-1]["pixels"] < 0.5 * course[0]["pixels"]
    assert sum(course[-1].values()) < 0.5 * sum(course[0].values())


# --- the verbs -------------------------------------------------------------------------------------------------------------------

def test_codes_are_means_and_log_variances(model):
    mean, log_var = model.encode(FACES.image)
    assert mean.shape == log_var.shape == (24, 8)
    assert not mean.requires_grad


def test_a_replaced_plane_takes_the_targets_place_and_keeps_the_rest(model, monkeypatch):
    seen = []
    monkeypatch.setattr(model, "decode", lambda code, boundary: seen.append(code) or torch.zeros(len(code), 3, 16, 16))
    image, boundary = FACES.image[:5], structures()[5:10]
    z, target = model.encode(image)[0], model.prior(boundary).mean
    model.transfer(image, boundary)
    model.transfer(image, boundary, replace_plane=True)
    kept, replaced = seen
    torch.testing.assert_close(kept, z)
    plane = model.memory.in_plane
    torch.testing.assert_close(plane(replaced), plane(target), atol=1e-5, rtol=0)
    torch.testing.assert_close(replaced - plane(replaced), z - plane(z), atol=1e-5, rtol=0)
    assert (replaced - z).norm(dim=1).min() > 1e-3  # it makes a difference


@pytest.mark.parametrize("prior", ["unit", "mixture"])
def test_without_a_plane_the_code_is_kept(build, prior):
    model = build(prior=prior)
    image, boundary = FACES.image[:5], structures()[5:10]
    kept, replaced = (model.transfer(image, boundary, replace_plane=exchanged) for exchanged in (False, True))
    assert torch.equal(kept, replaced)
    torch.testing.assert_close(kept, model.decode(model.encode(image)[0], boundary))


def test_one_structure_serves_many_pictures_and_one_picture_many_structures(model):
    image, boundary = FACES.image[:4], structures()[:4]
    for exchanged in (False, True):
        several = model.transfer(image, boundary[:1], replace_plane=exchanged)
        singly = torch.cat([model.transfer(picture[None], boundary[:1], replace_plane=exchanged) for picture in image])
        torch.testing.assert_close(several, singly, atol=1e-5, rtol=1e-4)
        several = model.transfer(image[:1], boundary, replace_plane=exchanged)
        singly = torch.cat([model.transfer(image[:1], row[None], replace_plane=exchanged) for row in boundary])
        torch.testing.assert_close(several, singly, atol=1e-5, rtol=1e-4)
    assert (several[0] - several[1]).abs().max() > 1e-4  # and the structure is seen


@pytest.mark.parametrize("prior", ["unit", "mixture", "additive"])
def test_samples(build, prior):
    model = build(prior=prior)
    boundary = structures()[:3]
    made = model.sample(boundary, 4, generator=seeded(5))
    assert made.shape == (3, 4, 3, 16, 16) and made.abs().max() <= 1
    assert torch.equal(made, model.sample(boundary, 4, generator=seeded(5)))
    assert (made[:, 0] - made[:, 1]).abs().amax(dim=(1, 2, 3)).min() > 1e-4  # several people for one structure
    assert model.sample(boundary).shape == (3, 1, 3, 16, 16)


@pytest.mark.parametrize("prior", ["unit", "additive"])
def test_at_temperature_zero_everybody_is_the_priors_mean(build, prior):
    model = build(prior=prior)
    boundary = structures()[:3]
    made = model.sample(boundary, 2, generator=seeded(5), temperature=0.0)
    mean = model.prior(boundary).mean.expand(3, -1)
    torch.testing.assert_close(made[:, 0], model.decode(mean, boundary), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made[:, 0], made[:, 1], atol=1e-5, rtol=1e-4)


def test_temperature_scales_the_spread(model):
    model.decode = lambda code, boundary: code[:, :3, None, None].expand(-1, -1, 16, 16)
    narrow, wide = (model.sample(structures()[:1], 400, generator=seeded(5), temperature=t)[0].std(0).mean() for t in (0.5, 2.0))
    assert wide / narrow == pytest.approx(4, rel=1e-4)
    scale = model.prior(structures()[:1]).scale
    assert wide / (2 * scale) == pytest.approx(1, abs=0.15)


# --- the house -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
def test_sizes(room, size):
    config = room.Config(size=size, width=8, most=16, code=8, clusters=2, **PLAIN[room])
    assert len(config.widths) == math.log2(size / 4) + 1  # every side from the picture's to 4
    model = room.Model(config)
    image, boundary = torch.rand(2, 3, size, size), torch.rand(2, 1, size, size)
    assert model.decode(model.encode(image)[0], boundary).shape == (2, 3, size, size)


@pytest.mark.parametrize("size", [0, 4, 12, 48, 100])
def test_other_sizes_are_named(room, size):
    with pytest.raises(ShapeError, match=f"8, 16, 32.*{size}"):
        room.Model(room.Config(size=size))


def test_wrong_arguments_are_named(room, model):
    with pytest.raises(ShapeError, match="unit, mixture, additive"):
        room.Model(room.Config(**SMALL, prior="flow"))
    with pytest.raises(ShapeError, match="centred_l1"):
        room.Model(room.Config(**SMALL, weighting="none"))
    with pytest.raises(ShapeError, match=r"\(N, 3, 16, 16\)"):
        model.encode(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ShapeError, match=r"\(N, 3, 16, 16\)"):
        model.encode(torch.zeros(3, 16, 16))
    for call in (lambda b: model.transfer(FACES.image[:2], b), model.sample):
        with pytest.raises(ShapeError, match=r"\(N, 1, 16, 16\)"):
            call(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ShapeError, match="one row"):
        model.transfer(FACES.image[:2], structures()[:3])


@pytest.mark.parametrize("points", [21, 9])
def test_nothing_is_about_faces(build, points):
    hands = smooth_faces(n=12, points=points)
    model = build(hands)
    terms = model.losses(model.draw(hands, 5, seeded(3)))
    assert all(value.isfinite() for value in terms.values())
    boundary = structures(hands)
    assert model.transfer(hands.image, boundary.flip(0)).shape == (12, 3, 16, 16)
    assert model.sample(boundary[:2], 3, generator=seeded()).shape == (2, 3, 3, 16, 16)


def test_weights_make_the_round_trip(room, model, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(model, path, {})
    again = load_weights(room.Model, room.Config, path)
    assert again.config == model.config
    image, boundary = FACES.image[:4], structures()[4:8]
    torch.testing.assert_close(again.transfer(image, boundary), model.transfer(image, boundary), atol=0.02, rtol=0)
    torch.testing.assert_close(again.memory(boundary), model.memory(boundary), atol=2e-3, rtol=0)
    assert not any(name.startswith("features") or "_features" in name for name in model.state_dict())
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(AssetError, match="damaged"):
        load_weights(room.Model, room.Config, path)


def test_a_configuration_is_frozen(room):
    config = room.Config()
    with pytest.raises(AttributeError):
        config.size = 32
    assert replace(config, size=32).widths == config.widths[:-1]
