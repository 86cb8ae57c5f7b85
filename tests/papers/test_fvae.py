"""FVAE: its parameter count is the paper's, its terms are the printed sums, its algorithms do what their lines say."""
import math

import pytest
import torch
from stand_ins import seeded, smooth_faces
from torch.nn import functional as F

from facelab.blocks import load_weights, save_weights
from facelab.core import MissingTruthError, Reading, ShapeError
from facelab.faces import EXPRESSIONS, FaceBatch
from facelab.geometry import flow_coherence, upsample_flow, warp
from facelab.papers.fvae import BLENDS, Confidence, Config, Model, PairError, blend_weights, colour_transfer, pairs
from facelab.training import fit

SMALL = {"size": 16, "width": 0.25}


@pytest.fixture(scope="module")
def faces():
    """Four people with three expressions each."""
    who, what = torch.arange(4).repeat_interleave(3), torch.tensor([0, 1, 4]).repeat(4)
    return FaceBatch(smooth_faces(12).image, identity=who, expression=what)


@pytest.fixture
def build(faces):
    def build(**changes):
        torch.manual_seed(0)
        model = Model(Config(**{**SMALL, **changes}))
        for convolution in (m for m in model.modules() if isinstance(m, torch.nn.Conv2d)):
            torch.nn.init.kaiming_normal_(convolution.weight)  # the printed start is too small to see anything move
        model.prepare(faces)
        with torch.no_grad():  # statistics of a batch, as after training
            model.train().losses(model.draw(faces, 8, seeded()))
        model.eval().remember(faces)
        return model

    return build


@pytest.fixture
def model(build):
    return build()


# --- the networks ----------------------------------------------------------------------------------------------------------------

def test_as_many_parameters_as_fig_3_implies():
    with torch.device("meta"):
        model = Model(Config())
    count = lambda *parts: sum(p.numel() for part in parts for p in part.parameters()) / 1e6  # noqa: E731
    assert Config().channels == [32, 64, 128, 256, 512, 1024]
    assert count(model.target, model.mean, model.log_var) == pytest.approx(25.17, abs=0.01)
    assert count(model.source) == pytest.approx(6.29, abs=0.01)
    assert count(model.up) == pytest.approx(31.45, abs=0.01)


def test_batchnorm_everywhere_but_before_the_output_and_filters_of_5_first_and_last():
    model = Model(Config(**SMALL))
    for part in (model.target, model.source, model.up):
        names = dict(part.named_modules())
        bare = {name for name, m in names.items() if isinstance(m, torch.nn.Sequential) and not any("Norm" in type(k).__name__ for k in m)}
        assert bare == ({"up.1"} if part is model.up else set())
    fives = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (5, 5)]
    assert fives == ["target.first.0", "source.first.0", "up.head", "mask.source.first.0", "mask.up.head"]


def test_weights_start_as_a_truncated_normal_of_a_hundredth():
    torch.manual_seed(0)
    for name, p in Model(Config(size=32)).named_parameters():
        if p.ndim == 4 and p.numel() > 1000:
            assert 0.007 < p.std() < 0.0105 and p.abs().max() <= 0.02, name


@pytest.mark.parametrize("size", [0, 4, 48, 100])
def test_sides_that_do_not_halve_to_4(size):
    with pytest.raises(ShapeError, match="size"):
        Model(Config(size=size))


def test_an_unknown_head():
    with pytest.raises(ShapeError, match="residual"):
        Model(Config(**SMALL, head="sideways"))


# --- flow ------------------------------------------------------------------------------------------------------------------------

def test_a_fresh_residual_head_moves_next_to_nothing_and_a_fresh_absolute_one_samples_the_middle(faces):
    torch.manual_seed(0)
    residual, absolute = (Model(Config(**SMALL, head=head)).eval() for head in ("residual", "absolute"))
    code = torch.randn(12, 32, 4, 4, generator=seeded())
    code = code[:, : residual.config.channels[-1]]
    assert residual.flow(faces.image, code).abs().max() < 0.1
    own = torch.arange(16.0)
    sampled = absolute.flow(faces.image, code) + torch.stack(torch.meshgrid(own, own, indexing="xy"))
    assert (sampled - 7.5).abs().max() < 0.5


def test_the_residual_head_reaches_no_farther_than_it_may(build, faces):
    model = build(reach=0.1)
    with torch.no_grad():
        model.up.head.bias.fill_(50.0)
    assert model.flow(faces.image, model.encode(faces.image)[0]).max() == pytest.approx(1.6)


def test_what_is_made_is_the_source_warped(model, faces):
    code = model.encode(faces.image.flip(0))[0]
    displacement = model.flow(faces.image, code)
    assert displacement.shape == (12, 2, 16, 16) and displacement.abs().max() > 0.05
    torch.testing.assert_close(model.decode(faces.image, code), warp(faces.image, displacement))


def test_g_and_m_read_how_a_code_differs_from_the_sources_own(build, faces):
    relative, printed = build(), build(relative=False)
    printed.load_state_dict(relative.state_dict())
    code = relative.encode(faces.image.flip(0))[0]
    apart = code - relative.encode(faces.image)[0]
    for verb in ("flow", "decode", "confidence"):
        made = getattr(relative, verb)(faces.image, code)
        torch.testing.assert_close(made, getattr(printed, verb)(faces.image, apart))
        assert (made - getattr(printed, verb)(faces.image, code)).abs().max() > 0.01


# --- training --------------------------------------------------------------------------------------------------------------------

def test_all_ordered_pairs_of_two_expressions_of_one_person(faces):
    found = pairs(faces)
    assert len(found) == len({tuple(row) for row in found.tolist()}) == 4 * 3 * 2
    source, target = faces[found[:, 0]], faces[found[:, 1]]
    assert torch.equal(source.identity, target.identity) and (source.expression != target.expression).all()


def test_without_pairs_there_is_nothing_to_learn(faces):
    with pytest.raises(PairError, match="two expressions"):
        pairs(faces[[0, 3, 6]])
    with pytest.raises(MissingTruthError, match="expression"):
        pairs(FaceBatch(faces.image, identity=faces.identity))


def test_a_batch_is_a_pair_flipped_alike_and_coloured_alike(model, faces):
    batch = model.draw(faces, 64, seeded(3))
    rows = {tuple(picture.flatten().tolist()): i for i, picture in enumerate(faces.image)}
    mirrored = {tuple(picture.flip(2).flatten().tolist()): i for i, picture in enumerate(faces.image)}
    kept = [tuple(t.flatten().tolist()) in rows for t in batch["target"]]
    assert all(k or tuple(t.flatten().tolist()) in mirrored for k, t in zip(kept, batch["target"], strict=True))
    assert 16 < sum(kept) < 48
    assert (batch["source"].mean(dim=(2, 3)) - batch["target"].mean(dim=(2, 3))).abs().mean() < 0.05
    again = model.draw(faces, 64, seeded(3))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_colour_transfer_undoes_a_change_of_light(faces):
    sunny = faces.image * 0.5 + 0.2
    dull = 0.6 * (sunny + 1) - 1
    torch.testing.assert_close(colour_transfer(dull, sunny), sunny, atol=1e-3, rtol=0)
    torch.testing.assert_close(colour_transfer(sunny, sunny), sunny, atol=1e-3, rtol=0)
    blueish = (sunny + 1) * torch.tensor([0.6, 0.7, 0.8]).view(3, 1, 1) - 1
    assert (colour_transfer(blueish, sunny) - sunny).abs().mean() < 0.2 * (blueish - sunny).abs().mean()


def test_the_terms_are_the_printed_sums(model, faces):
    batch = model.draw(faces, 5, seeded(1))
    with torch.no_grad():
        terms = model.losses(batch)
        mean, log_var = model.encode(batch["target"])
        code = mean + torch.exp(log_var / 2) * batch["noise"]
        made, displacement = model.decode(batch["source"], code), model.flow(batch["source"], code)
    eq4 = sum(((t - g) ** 2).sum() for t, g in zip(batch["target"], made, strict=True)) / 5
    eq3 = -(1 + log_var - mean**2 - torch.exp(log_var)).sum() / 5
    eq6 = flow_coherence(displacement, batch["target"], 10.0)
    torch.testing.assert_close(terms["pixels"], eq4, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["prior"], 0.003 * eq3, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["coherence"], 0.01 * eq6, rtol=1e-4, atol=1e-9)


def test_the_printed_prior_is_twice_the_divergence():
    mean, log_var = torch.randn(3, 8, generator=seeded()), torch.randn(3, 8, generator=seeded(1))
    printed = -(1 + log_var - mean**2 - log_var.exp()).sum(dim=1)
    normal = torch.distributions.Normal
    true = torch.distributions.kl_divergence(normal(mean, (log_var / 2).exp()), normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(printed, 2 * true)


def test_the_readings_of_coherence_differ(build, faces):
    batch = build().draw(faces, 4, seeded(1))
    with torch.no_grad():
        fixed, literal = (build(reading=reading.value).losses(batch)["coherence"] for reading in (Reading.fixed, Reading.literal))
    assert (literal - fixed).abs() > 1e-3 * literal


def test_it_learns_to_move_pixels():
    """A picture and itself two pixels farther on, under two names."""
    picture = smooth_faces(1, size=20).image
    faces = FaceBatch(torch.cat([picture[..., 2:18, 0:16], picture[..., 2:18, 4:20]]), identity=torch.zeros(2).long(),
                      expression=torch.tensor([0, 1]))  # fmt: skip
    torch.manual_seed(0)
    model = Model(Config(**SMALL, reach=0.4))
    model.prepare(faces)
    batch = model.draw(faces, 16, seeded())
    copied = (batch["target"] - batch["source"]).square().sum().item() / 16
    history = fit(model, faces, steps=80, batch=8, learning_rate=5e-3, clip_value=5.0, log_every=20, progress=False)
    assert history[-1]["pixels"] < 0.4 * copied


def test_the_first_player_leaves_the_mask_alone(model):
    own = {id(p) for p in model.players()["autoencoder"]}
    assert not own & {id(p) for p in model.mask.parameters()}
    assert own | {id(p) for p in model.mask.parameters()} == {id(p) for p in model.parameters()}


# --- confidence ------------------------------------------------------------------------------------------------------------------

def test_the_masks_label_and_loss(model, faces):
    training = Confidence(model)
    training.prepare(faces, seeded())
    batch = training.draw(faces, 6, seeded(2))
    with torch.no_grad():
        loss = training.losses(batch)["mask"]
        mean, log_var = model.encode(batch["target"])
        code = mean + torch.exp(log_var / 2) * batch["noise"]
        error = (batch["target"] - model.decode(batch["source"], code)).square().sum(dim=1, keepdim=True)
        label, mask = torch.exp(-error / training.beta), model.confidence(batch["source"], code)
    eq8 = -(label * mask.log() + (1 - label) * (1 - mask).log()).sum() / 6
    torch.testing.assert_close(loss, eq8, rtol=1e-3, atol=0)
    assert 0 <= label.min() and label.max() <= 1 and 0.3 < (label > 0.5).float().mean() < 0.7


def test_training_the_mask_changes_nothing_else(model, faces):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = Confidence(model)
    training.prepare(faces, seeded())
    first, *_, last = fit(training, faces, steps=60, batch=8, learning_rate=2e-3, log_every=10, progress=False)
    assert last["mask"] < first["mask"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("mask."), name


# --- the verbs -------------------------------------------------------------------------------------------------------------------

def test_places_are_the_means_of_the_classes(model, faces):
    for label in (0, 1, 4):
        of_class = model.encode(faces.image[faces.expression == label])[0].mean(dim=0)
        torch.testing.assert_close(model.place(EXPRESSIONS[label]), of_class, atol=1e-5, rtol=1e-4)
    with pytest.raises(PairError, match="neutral, smile, disgust"):
        model.place("fear")


def test_directions(model, faces):
    torch.testing.assert_close(model.direction("smile", "neutral"), model.place("smile") - model.place("neutral"))
    torch.testing.assert_close(model.direction("smile", faces.image[:2]), model.place("smile") - model.encode(faces.image[:2])[0])


def test_edit_takes_k_equal_steps_from_the_sources_own_code(model, faces):
    source, way = faces.image[:3], model.direction("smile", "neutral")
    made = model.edit(source, way, 4)
    assert made.shape == (3, 5, 3, 16, 16)
    own = model.encode(source)[0]
    for i in range(5):
        torch.testing.assert_close(made[:, i], model.decode(source, own + i / 4 * way))
    to_the_class = model.edit(source, model.direction("smile", source), 1)[:, 1]
    torch.testing.assert_close(to_the_class, model.decode(source, model.place("smile").expand(3, -1, -1, -1)), atol=1e-4, rtol=1e-3)
    with pytest.raises(ShapeError, match="steps"):
        model.edit(source, way, 0)


def test_interpolation_is_the_blend_of_two_warps(model, faces):
    a, b = faces.image[:2], faces.image[4:6]
    made = model.interpolate(a, b, 2)
    code = (model.encode(a)[0] + model.encode(b)[0]) / 2
    masks = torch.stack([model.confidence(a, code), model.confidence(b, code)]).exp()
    expected = (masks[0] * model.decode(a, code) + masks[1] * model.decode(b, code)) / masks.sum(dim=0)
    torch.testing.assert_close(made[:, 1], expected, atol=1e-5, rtol=1e-4)
    assert made.shape == (2, 3, 3, 16, 16)


def test_blends():
    logits = torch.tensor([0.9, 0.1]).logit().view(2, 1, 1, 1, 1)
    weight = {blend: blend_weights(logits, blend).flatten().tolist() for blend in BLENDS}
    assert weight["softmax"] == pytest.approx([0.690, 0.310], abs=1e-3)
    assert weight["linear"] == pytest.approx([0.9, 0.1])
    assert weight["logit"] == pytest.approx([81 / 82, 1 / 82])
    assert weight["literal"] == pytest.approx([math.exp(-0.1), math.exp(-0.9)])
    assert sum(weight["literal"]) == pytest.approx(1.31, abs=0.01)  # over-exposed
    assert blend_weights(torch.full((2, 1, 1, 1, 1), -60.0), "literal").sum() == pytest.approx(2.0)
    with pytest.raises(ShapeError, match="softmax"):
        blend_weights(logits, "overlay")


def test_a_small_flow_moves_a_large_photograph(model, faces):
    displacement = model.flow(faces.image[:2], model.encode(faces.image[2:4])[0])
    large = F.interpolate(faces.image[:2], size=64, mode="bilinear", align_corners=True)
    torch.testing.assert_close(model.upsample(large, displacement), warp(large, upsample_flow(displacement, 64)))


def test_the_vae_paints(build, faces):
    model = build(head="rgb")
    code = model.encode(faces.image)[0]
    made = model.decode(faces.image, code)
    assert made.shape == faces.image.shape and made.abs().max() <= 1
    assert set(model.losses(model.draw(faces, 4, seeded()))) == {"pixels", "prior"}
    for verb in (model.flow, model.confidence):
        with pytest.raises(ShapeError, match="rgb"):
            verb(faces.image, code)
    with pytest.raises(ShapeError, match="rgb"):
        Confidence(model)


def test_pictures_of_another_size(model):
    for verb in (model.encode, lambda x: model.edit(x, model.direction("smile", "neutral"))):
        with pytest.raises(ShapeError, match="16"):
            verb(torch.zeros(1, 3, 32, 32))


def test_weights_come_back(model, faces, tmp_path):
    save_weights(model, tmp_path / "fvae.safetensors", {})
    again = load_weights(Model, Config, tmp_path / "fvae.safetensors")
    made = [m.edit(faces.image[:2], m.direction("disgust", "neutral"), 1) for m in (model, again)]
    torch.testing.assert_close(*made, atol=0.02, rtol=0)
