"""FaceFeat-GAN: printed sizes, each player's loss by its formula, who learns from whom, weights that pull equally, and the verbs."""
from dataclasses import replace

import pytest
import torch
from stand_ins import awake, seeded
from torch.nn import functional as F

from facelab.adversarial import r1_penalty
from facelab.blocks import load_weights, save_weights
from facelab.blocks.regressor import Config as RegressorConfig
from facelab.blocks.regressor import Regressor
from facelab.core import ShapeError
from facelab.faces import FaceWorld
from facelab.papers.facefeat_gan import (
    IMAGE_TERMS,
    PLAYERS,
    Aside,
    Balance,
    Config,
    Decoder,
    Encoder,
    Features,
    FirstStage,
    Model,
    Rebuilding,
    Recogniser,
    RecogniserConfig,
    _perceptron,
    pose_and_expression,
)  # fmt: skip
from facelab.training import fit

SMALL = {"size": 16, "width": 6, "encoder_width": 4, "identity": 12, "general": (10,), "noise": 5, "generator": (8, 8),
         "discriminator": (8, 8)}  # fmt: skip


@pytest.fixture(scope="module")
def faces():
    return FaceWorld(3).sample(24, size=16, people=6)


@pytest.fixture
def build(faces):
    def build(**changes):
        torch.manual_seed(0)
        model = Model(Config(**{**SMALL, **changes}))
        finder = awake(Regressor(RegressorConfig(size=32, width=4, hidden=16)), faces.image)
        model.use_extractors(Recogniser(RecogniserConfig(size=16, width=3, identity=12)), finder)
        model.prepare(faces)
        return model.eval()

    return build


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_printed_sizes():
    """Section 4's neurons, and BEGAN's channels at 128 px (counted in SPECS 4.2)."""
    generators = [count(_perceptron(64, (128, 256, 256), wide)) for wide in (30, 256)]
    discriminators = [count(_perceptron(wide, (256, 256, 128), 1)) for wide in (30, 256)]
    assert (generators, discriminators) == ([114_846, 172_928], [106_753, 164_609])
    for width, wanted in ((64, (2.60, 8.79, 3.56)), (128, (5.93, 24.65, 14.20))):
        found = count(Decoder(542, width, 5)), count(Encoder(width, 5, 256)), count(Encoder(width, 5, 1))
        assert [round(n / 1e6, 2) for n in found] == pytest.approx(wanted, abs=0.011), width


def test_shapes_and_lengths(build, faces):
    model = build()
    seen = model.features(faces.image[:5])
    assert seen.identity.shape == (5, 12) and [tuple(f.shape) for f in seen.varied] == [(5, 22), (5, 10)]
    for feature in (seen.identity, seen.varied[1], model.invent(model.noise(3, seeded()))[1]):
        torch.testing.assert_close(feature.norm(dim=1), torch.full((len(feature),), 16.0), atol=1e-3, rtol=0)
    noise = model.noise(2000, seeded())
    assert noise.shape == (2000, 2, 5) and noise.abs().max() <= 1 and noise.std() == pytest.approx(3**-0.5, rel=0.02)
    assert model.reconstruct(faces.image[:5]).shape == (5, 3, 16, 16)
    assert model.synthesise(faces.image[:5], 3, seeded()).shape == (5, 3, 3, 16, 16)
    assert build(general=(10, 7, 4)).synthesise(faces.image[:1], 2).shape == (1, 2, 3, 16, 16), "k = 4"


def test_the_first_feature_is_standardised(build, faces):
    model = build()
    first = model.features(faces.image).varied[0]
    torch.testing.assert_close(first.mean(dim=0), torch.zeros(22), atol=1e-3, rtol=0)
    with torch.no_grad():
        spread = pose_and_expression(model._given[1](faces.image)).std(dim=0)
    torch.testing.assert_close(first.std(dim=0), (spread / 0.02).clamp(max=1), atol=1e-2, rtol=0)  # what hardly moves is not blown up
    assert (spread > 0.02).sum() > 5
    found = model._given[1](faces.image[:3])
    assert pose_and_expression(found).shape == (3, 22)


def test_aside_of_the_origin():
    """By what it has seen so far, not by the batch; and so that a feature's variance, at one length, is about 1 / (1 + 0.8²)."""
    norm = Aside(200)
    draw = lambda n: 3 * torch.randn(n, 200, generator=generator) + 7  # noqa: E731
    generator = seeded()
    for _ in range(200):
        norm(draw(50))
    x = draw(4)
    mean, spread = norm.running_mean.clone(), norm.running_var.clone().sqrt()
    assert (mean - 7).abs().mean() < 0.2 and (spread - 3).abs().mean() < 0.1
    torch.testing.assert_close(norm.eval()(x), (x - mean) / spread + 0.8, atol=1e-4, rtol=0)
    torch.testing.assert_close(norm.train()(x), (x - mean) / spread + 0.8, atol=0.3, rtol=0.1)  # the three others hardly matter
    many = F.normalize(norm.eval()(draw(2000))) * 200**0.5
    assert many.var(dim=0).mean() == pytest.approx(1 / (1 + 0.8**2), abs=0.03)


def test_a_known_face_is_told_as_the_finder_would(build, faces):
    """On average over the training faces, and for any direction in which they differ: E_1's answers less these are noise."""
    model = build()
    told = model.first(faces.expression_coefficients, faces.pose)
    said = model.features(faces.image).varied[0]
    known = torch.cat([torch.ones(len(faces), 1), faces.expression_coefficients], dim=1)
    left = known.T @ (said - told)[:, :19]
    assert left.abs().max() < 1e-3 * (known.T @ said[:, :19]).abs().max()
    torch.testing.assert_close(told[:, 19:], (faces.pose - model.mean[19:]) / model.scale[19:])
    before = model.hearsay.clone()
    model.prepare(replace(faces, expression_coefficients=None))  # photographs: as before
    assert torch.equal(model.hearsay, before) and not torch.equal(before, torch.eye(20)[:, 1:])


def test_every_feature_comes_with_the_same_length(build, faces):
    model = build()
    seen = model.features(faces.image)
    parts = seen.joined().split([12, 22, 10], dim=1)
    for part, given in zip(parts, [seen.identity, *seen.varied], strict=True):
        torch.testing.assert_close(F.normalize(part), F.normalize(given))
    assert [part.norm(dim=1).mean().item() for part in parts[::2]] == pytest.approx([16, 16])
    assert parts[1].square().sum(dim=1).mean().item() == pytest.approx(256 * (seen.varied[0].var(dim=0).sum().item() / 22), rel=0.05)


def test_other_faces_are_standardised_as_those_it_was_prepared_for(build, faces):
    """Photographs to go on learning from must not move what G^I has learnt to read."""
    model = build()
    mean = model.mean.clone()
    others = FaceWorld(3).sample(6, size=16, start=100)
    batch = model.draw(others, 6, seeded())
    assert torch.equal(model.mean, mean) and len(model._known[1]) == 6
    rows = torch.randint(6, (6,), generator=seeded())
    torch.testing.assert_close(batch["first"], model.features(others.image).varied[0][rows], atol=1e-4, rtol=0)


def test_a_picture_is_rebuilt_with_the_next_of_its_sitting(build):
    """f_id and f_2 are the sibling's, f_1 is the picture's; where no sittings are known everybody is their own sibling."""
    model = build()
    sat = FaceWorld(3).sample(12, size=16, sitting=3, still=False, start=300)
    sat = sat[torch.tensor([3, 0, 1, 8, 4, 2, 5, 6, 7, 9, 11, 10])]
    after = [4, 2, 5, 7, 6, 1, 0, 8, 3, 10, 11, 9]
    batch = model.draw(sat, 40, seeded())
    row = [next(i for i in range(12) if torch.equal(sat.image[i], image)) for image in batch["image"]]
    assert torch.equal(batch["sibling"], sat.image[[after[i] for i in row]]) and len(set(row)) > 9
    seen = model.features(sat.image)
    told = model._real({name: value[:12] for name, value in batch.items()})
    theirs = [after[i] for i in row[:12]]
    torch.testing.assert_close(told.varied[1], seen.varied[1][theirs], atol=1e-4, rtol=0)
    torch.testing.assert_close(told.identity, seen.identity[theirs], atol=1e-4, rtol=0)
    torch.testing.assert_close(told.varied[0], seen.varied[0][row[:12]], atol=1e-4, rtol=0)
    alone = model.draw(replace(sat, clip=None), 5, seeded())
    assert torch.equal(alone["sibling"], alone["image"])


# --- the equations ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("reading", ["fixed", "literal"])
def test_each_loss_by_its_formula(build, faces, reading):
    """Eqs. 1 to 4, 8 and 11, in evaluation mode: weights are 1 before anything was measured."""
    model = build(reading=reading, penalties=(0.5, 0.7, 0.9))
    batch = model.draw(faces, 4, seeded())
    with torch.no_grad():
        real, made = model._real(batch), model._invented(batch["noise"])
        others = [[3, 0], [2, 3]]  # half of four have the features of two others
        mixed = [torch.cat([f[who], s[2:]]) for who, f, s in zip(others, real.varied, made, strict=True)]
        rebuilt, invented, swapped = (model.image_generator(Features(batch["identity"], f).joined()) for f in (real.varied, made, mixed))
        on = model.image_discriminator
        probability = lambda logits: -torch.sigmoid(logits).log().mean()  # noqa: E731
        judged = list(zip(model.feature_discriminators, real.varied, made, strict=True))
        against = {"fixed": lambda fake: -(1 - torch.sigmoid(fake)).log().mean(), "literal": lambda fake: -probability(fake)}[reading]
        identity = lambda x: (F.normalize(batch["identity"]) - F.normalize(model._given[0](x))).square().sum(dim=1).mean()  # noqa: E731
        l1 = (batch["image"] - rebuilt).abs().mean()
        wanted = {
            "feature_discriminators": {f"features_{k}": probability(d(r)) + against(d(f)) for k, (d, r, f) in enumerate(judged, 1)},
            "image_discriminator": {"real": probability(on(batch["image"])), "invented": against(on(invented)) / 2,
                                    "rebuilt": against(on(rebuilt)) / 2},
            "feature_generators": {f"features_{k}": probability(d(f)) for k, (d, _, f) in enumerate(judged, 1)}
            | {"image": probability(on(invented))},
            "image_generator": {"reconstruction": l1, "image": probability(on(rebuilt)), "identity_rebuilt": identity(rebuilt),
                                "identity_invented": identity(swapped)},
            "encoders": {"reconstruction": l1},
        }  # fmt: skip
    wanted["feature_discriminators"]["penalty"] = sum(w * r1_penalty(d, r) for w, (d, r, _) in zip((0.5, 0.7), judged, strict=True))
    wanted["image_discriminator"]["penalty"] = 0.9 * r1_penalty(on, batch["image"][: -(-len(batch["image"]) // 4)])
    for player in PLAYERS:
        found = model.losses(batch, player)
        assert set(found) == set(wanted[player]), player
        for name, value in found.items():
            torch.testing.assert_close(value, wanted[player][name], rtol=1e-4, atol=1e-5, msg=f"{player}: {name}")


def test_every_gradient_reaches_exactly_its_owner(build, faces):
    """Eqs. 1 to 4 and 8 as `fit` takes them: with respect to a player's own parameters; and what else each loss would reach."""
    model = build()
    batch = model.draw(faces, 4, seeded())
    reached = {}
    for player in PLAYERS:
        model.zero_grad()
        sum(model.losses(batch, player).values()).backward()
        reached[player] = {name for name, parts in model.players().items() if any(p.grad is not None and p.grad.any() for p in parts)}
        own = model.players()[player]
        assert all(p.grad is not None for p in own), player
    assert reached == {
        "feature_discriminators": {"feature_discriminators"}, "image_discriminator": {"image_discriminator"},
        "feature_generators": {"feature_generators", "feature_discriminators", "image_generator", "image_discriminator"},  # passed through
        "image_generator": {"image_generator", "image_discriminator"},  # neither G^f (D6) nor E_2
        "encoders": {"encoders", "image_generator"},
    }  # fmt: skip
    assert not any(p.requires_grad for network in model._given for p in network.parameters()), "E_id and E_1 are fixed"


def test_both_levels_move_the_feature_generators(build, faces):
    """Eq. 1: phi^f and phi^I, each alone, reach every G_i^f."""
    for without in (("features",), ("image",)):
        model = build(without=without)
        batch = model.draw(faces, 4, seeded())
        sum(model.losses(batch, "feature_generators").values()).backward()
        for network in model.feature_generators:
            assert all(p.grad is not None and p.grad.any() for p in network.parameters()), without


def test_a_balance_makes_terms_pull_equally():
    """Terms whose gradients are known, means over a batch of 5; every second step is noted."""
    balance, x = Balance(("a", "b", "c"), every=2), torch.zeros(5, 3, requires_grad=True)
    way = torch.tensor([2.0, 0, 0])
    assert balance.weights() == {"a": 1, "b": 1, "c": 1}
    balance.note({"a": ((x @ way).mean(), x), "b": (x.sum(dim=1).mean(), x)})
    assert balance.weights() == pytest.approx({"a": 1, "b": 2 / 3**0.5, "c": 1})
    for _ in range(2):  # the first of them is not looked at
        balance.note({"a": ((x @ way).mean(), x), "b": (11 * x.sum(dim=1).mean(), x)})
    assert balance.weights()["b"] == pytest.approx(2 / (0.9 * 3**0.5 + 0.1 * 11 * 3**0.5)), "a tenth of what was noted last"
    balance.eval().note({"a": (x.sum(), x)})
    assert int(balance.steps) == 3
    left = Balance(("a", "b"), every=1)
    left.note({"b": (x.sum(), x)})
    assert left.weights() == {"a": 1, "b": 1}, "where the first is left out the next one is 1"


def test_the_losses_are_weighed_by_their_balances(build, faces):
    model = build().train()
    batch = model.draw(faces, 6, seeded())
    model.losses(batch, "image_generator")
    weights = model.weights("image_generator")
    assert set(weights) == set(IMAGE_TERMS) and weights["reconstruction"] == 1 and weights["image"] != 1
    model.eval()
    weighed = model.losses(batch, "image_generator")
    model.image_balance.pulls.zero_()
    for name, value in model.losses(batch, "image_generator").items():
        torch.testing.assert_close(weighed[name], weights[name] * value)


def test_the_picture_pulls_at_each_feature_with_its_own_weight(build, faces):
    """Eq. 1: lambda_i^f is of one i, the picture of all."""
    model = build()
    batch = model.draw(faces, 6, seeded())

    def gradients():
        model.zero_grad()
        model.losses(batch, "feature_generators")["image"].backward()
        return [next(network.parameters()).grad.clone() for network in model.feature_generators]

    plain = gradients()
    for balance, pull in zip(model.feature_balances, (3.0, 0.25), strict=True):
        balance.pulls.copy_(torch.tensor([pull, 1.0]))
    assert model.weights("feature_generators") == {"image_1": 3.0, "image_2": 0.25}
    for weighed, before, weight in zip(gradients(), plain, (3.0, 0.25), strict=True):
        torch.testing.assert_close(weighed, weight * before, rtol=1e-3, atol=1e-7)


def test_rebuilding_alone(build, faces):
    """Eq. 8, from which here G^I learns, too; nobody else moves."""
    model = build()
    start = Rebuilding(model)
    batch = start.draw(faces, 6, seeded())
    l1 = (batch["image"] - model.paint(model._real(batch))).abs().mean()
    for player in start.players():
        torch.testing.assert_close(start.losses(batch, player)["reconstruction"].detach(), l1, rtol=1e-4, atol=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = fit(start, faces, steps=30, batch=8, progress=False, log_every=10)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"encoders", "image_generator"}
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]


def test_the_first_stage_alone(build, faces):
    """Eqs. 1 and 2 without pictures, on every picture's own features; nobody else moves."""
    model = build(penalties=(0.5, 0.7, 0.9))
    stage = FirstStage(model)
    stage.prepare(faces)
    batch = stage.draw(faces, 6, seeded())
    rows = torch.randint(24, (6,), generator=seeded())
    real, made = model.features(faces.image[rows]).varied, model.invent(batch["noise"])
    torch.testing.assert_close(batch["varied"], torch.cat(real, dim=1), atol=1e-4, rtol=0)
    minus_log = lambda p: -p.log().mean()  # noqa: E731
    wanted = [{}, {}]
    for i, (judge, r, f) in enumerate(zip(model.feature_discriminators, real, made, strict=True), 1):
        wanted[0][f"features_{i}"] = minus_log(torch.sigmoid(judge(r))) + minus_log(1 - torch.sigmoid(judge(f)))
        wanted[1][f"features_{i}"] = minus_log(torch.sigmoid(judge(f)))
    wanted[0]["penalty"] = sum(w * r1_penalty(judge, r) for w, judge, r in zip((0.5, 0.7), model.feature_discriminators, real, strict=True))
    for player, terms in zip(stage.players(), wanted, strict=True):
        torch.testing.assert_close(stage.losses(batch, player), terms, rtol=1e-3, atol=1e-4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(stage, faces, steps=3, batch=4, progress=False, log_every=1)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"feature_generators", "feature_discriminators"}


# --- ablations, extractors, verbs --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("term", ["identity", "features", "image", "reconstruction"])
def test_what_is_left_out_is_not_there(build, faces, term):
    model = build(without=(term,))
    for player in model.players():
        names = [name.split("_")[0] for name in model.losses(model.draw(faces, 4, seeded()), player)]
        assert names and (term not in names or player in ("encoders", "feature_discriminators")), player
    assert ("image_discriminator" in model.players()) == (term != "image")
    assert ("feature_discriminators" in model.players()) == (term != "features")
    history = fit(model, faces, steps=4, batch=4, progress=False, log_every=2)
    assert len(history) == 2


def test_extractors_see_and_stay(build, faces, tmp_path):
    model = build()
    before = [p.clone() for network in model._given for p in network.parameters()]
    fit(model, faces, steps=3, batch=4, progress=False, log_every=1)
    assert all(torch.equal(a, b) for a, b in zip(before, (p for network in model._given for p in network.parameters()), strict=True))
    save_weights(model, tmp_path / "it.safetensors", {})
    again = load_weights(Model, Config, tmp_path / "it.safetensors")
    again.use_extractors(*model._given)
    torch.testing.assert_close(again.reconstruct(faces.image[:3]), model.reconstruct(faces.image[:3]), atol=0.03, rtol=0)
    assert again.weights("image_generator") == pytest.approx(model.weights("image_generator"), rel=0.01)


def test_the_recogniser_tells_people_apart(faces, tmp_path):
    torch.manual_seed(0)
    recogniser = Recogniser(RecogniserConfig(size=16, width=6, identity=16))
    recogniser.prepare(faces)
    assert recogniser.people.shape == (6, 16)
    batch = recogniser.draw(faces, 8, seeded())
    logits = torch.einsum("nd,kd->nk", recogniser(batch["image"]), recogniser.people)
    by_hand = -logits.softmax(dim=1)[torch.arange(8), batch["who"]].log().mean()
    torch.testing.assert_close(recogniser.losses(batch)["classification"], by_hand)
    history = fit(recogniser, faces, steps=120, batch=12, learning_rate=3e-3, progress=False, log_every=20)
    assert history[-1]["classification"] < 0.65 * history[0]["classification"]
    f = recogniser(faces.image)
    torch.testing.assert_close(f.norm(dim=1), torch.full((24,), 64.0), atol=1e-2, rtol=0)
    recogniser.graduate()
    save_weights(recogniser, tmp_path / "r.safetensors", {})
    assert load_weights(Recogniser, RecogniserConfig, tmp_path / "r.safetensors")(faces.image[:2]).shape == (2, 16)


def test_what_verbs_keep_and_change(build, faces):
    model = build()
    one, two = faces.image[:1], faces.image[7:8]
    seen = model.features(one)
    front = model.frontalise(one)
    ahead = model.first(torch.zeros(1, 19), torch.zeros(1, 3))
    torch.testing.assert_close(front, model.paint(seen._replace(varied=[ahead, seen.varied[1]])))
    shared = model.frontalise(faces.image[:2], [model.features(two).varied[1]])
    torch.testing.assert_close(shared[:1], model.paint(seen._replace(varied=[ahead, model.features(two).varied[1]])), atol=1e-5, rtol=0)
    found = model._given[1](two)
    model.hearsay.copy_(torch.eye(20)[:, 1:])  # as if what it finds were the truth
    told = model.transfer(two, found.expression_coefficients, found.pose)
    torch.testing.assert_close(told, model.reconstruct(two), atol=1e-4, rtol=0)
    way = model.interpolate(one, two, 5)
    torch.testing.assert_close(way[:1], model.reconstruct(one), atol=1e-5, rtol=0)
    torch.testing.assert_close(way[-1:], model.paint(seen._replace(identity=model.features(two).identity)), atol=1e-4, rtol=0)
    a, b = (model.synthesise(one, 3, seeded(k)) for k in (0, 0))
    torch.testing.assert_close(a, b)
    assert (a[0, 0] - a[0, 1]).abs().max() > 1e-4


def test_what_it_refuses(build):
    for wrong in ({"without": ("hat",)}, {"size": 48}, {"size": 8}, {"reading": "both"}):
        with pytest.raises((ShapeError, ValueError)):
            Model(Config(**{**SMALL, **wrong}))
    model = build()
    with pytest.raises(ShapeError, match="16"):
        model.features(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ShapeError, match="z is"):
        model.invent(torch.zeros(2, 3, 5))
