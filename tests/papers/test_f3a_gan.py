"""F3A-GAN's second stage: Eq. 4 and the growth by their formulas, who learns from what, and what the verbs keep."""
import pytest
import torch
from stand_ins import awake, seeded
from torch.nn import functional as F

from facelab.adversarial import gradient_penalty
from facelab.blocks import load_weights, save_weights
from facelab.blocks.regressor import Config as RegressorConfig
from facelab.blocks.regressor import Regressor
from facelab.core import MissingTruthError, ShapeError
from facelab.evaluation import psnr
from facelab.faces import FaceBatch, FaceWorld
from facelab.geometry import facial_flow, warp
from facelab.geometry.pose import Parameters, place
from facelab.papers.f3a_gan import REACH, ClipError, Config, Critic, Fusion, Generator, Ladder, Model, feature_weights, heat_map, unit
from facelab.training import fit

SMALL = {"size": 32, "width": 2, "start": 8, "grow": 0}
AS_PRINTED = {"align": False, "normalise": True}


@pytest.fixture(scope="module")
def clips():
    """Six people, five frames each."""
    return FaceWorld(3).sample(30, size=32, sitting=5, still=False, yaw=(-40, 40))


@pytest.fixture
def build(clips):
    def build(**changes):
        torch.manual_seed(0)
        model = Model(Config(**{**SMALL, **changes}))
        model.prepare(clips)
        return model

    return build


# --- growing ---------------------------------------------------------------------------------------------------------------------

def test_each_side_fades_in_over_half_its_steps_and_then_stays():
    """Alpha is the share of the new level, 0 to 1: schedules that divide integers stay at 0 (SPECS E7)."""
    config = Config(size=128, grow=100, start=16)
    assert config.sides == [128, 64, 32, 16, 8, 4] and config.channels == [6, 12, 24, 48, 96, 96]
    wanted = {0: (16, 1.0), 99: (16, 1.0), 100: (32, 0.0), 125: (32, 0.5), 150: (32, 1.0), 199: (32, 1.0), 225: (64, 0.5),
              300: (128, 0.0), 340: (128, 0.8), 350: (128, 1.0), 9999: (128, 1.0)}  # fmt: skip
    for step, (side, alpha) in wanted.items():
        level, now = config.stage(step)
        assert (config.sides[level], now) == (side, pytest.approx(alpha)), step
    assert Config(size=128, grow=0).stage(0) == (0, 1.0)
    alphas = [config.stage(step)[1] for step in range(100, 151)]
    assert alphas == sorted(alphas) and len(set(alphas)) == 51


def test_a_new_level_begins_as_the_old_picture_upsampled_and_ends_as_its_own():
    torch.manual_seed(0)
    generator = Generator(Config(**SMALL), 3).eval()
    source, condition = torch.rand(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        new = [generator(source, condition, 0, alpha) for alpha in (0.0, 0.5, 1.0)]
        old = generator(F.avg_pool2d(source, 2), F.avg_pool2d(condition, 2), 1, 1.0).atanh()
    up = F.interpolate(old, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(new[0], up.tanh(), atol=1e-4, rtol=0)
    assert (new[1] - new[0]).abs().max() > 1e-3 and (new[2] - new[1]).abs().max() > 1e-3


def test_a_ladder_fades_in_too():
    torch.manual_seed(0)
    ladder, picture = Ladder(3, [4, 6, 8]), torch.rand(1, 3, 16, 16)
    below = ladder(F.avg_pool2d(picture, 2), 1, 1.0)
    faded = ladder(picture, 0, 0.0)
    for a, b in zip(faded[1:], below, strict=True):
        torch.testing.assert_close(a, b)
    assert [tuple(x.shape[1:]) for x in faded] == [(4, 16, 16), (6, 8, 8), (8, 4, 4)]


def test_a_critic_fades_in_too():
    """At alpha 0 its answers are those of the level below, to a picture half as large, wherever it answers from."""
    torch.manual_seed(0)
    critic, picture = Critic([4, 6, 8, 8, 8, 8]), torch.rand(1, 3, 128, 128)
    for level, side in ((0, 128), (1, 64), (2, 32)):
        large = F.adaptive_avg_pool2d(picture, side)
        faded, below = critic(large, level, 0.0), critic(F.avg_pool2d(large, 2), level + 1, 1.0)
        torch.testing.assert_close(faded, F.interpolate(below, size=faded.shape[-1], mode="nearest"))
        assert (critic(large, level, 1.0) - faded).abs().max() > 1e-4
    assert [tuple(critic(F.adaptive_avg_pool2d(picture, s), n).shape[2:]) for n, s in enumerate((128, 64, 32, 16))] == [
        (16, 16), (8, 8), (4, 4), (4, 4)]  # fmt: skip


def test_the_model_grows_as_it_is_trained(build, clips, tmp_path):
    """Both players see each step's side and alpha."""
    model, seen = build(grow=4), {"generator": [], "critic": []}
    for player, own in seen.items():
        def noted(module, given, own=own):
            picture, (level, alpha) = given[0], given[-2:]
            own.append((picture.shape[-1], level, alpha))
        getattr(model, player).register_forward_pre_hook(noted)
    fit(model, clips, steps=14, batch=4, progress=False, log_every=1, out=tmp_path)
    assert model.step == 14 and model.stage == (0, 1.0)
    wanted = [(8, 2, 1.0)] * 4 + [(16, 1, 0.0), (16, 1, 0.5), (16, 1, 1.0), (16, 1, 1.0), (32, 0, 0.0), (32, 0, 0.5)] + [(32, 0, 1.0)] * 4
    for player, calls in seen.items():
        a_step = len(calls) // 14
        assert [calls[k * a_step : (k + 1) * a_step] for k in range(14)] == [[stage] * a_step for stage in wanted], player
    assert model.make(clips.image[:2], model.condition(*[Parameters.of(clips[:2])] * 2)).shape == (2, 3, 32, 32)
    small = build(grow=1000)
    assert small.make(clips.image[:2], torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32), "a model that has not grown yet"


def test_a_run_that_was_stopped_goes_on_where_it_was(build, clips, tmp_path):
    whole = build(grow=3)
    fit(whole, clips, steps=8, batch=4, progress=False, every=4, out=tmp_path / "whole")
    first = build(grow=3)
    fit(first, clips, steps=4, batch=4, progress=False, every=4, out=tmp_path / "part")
    second = build(grow=3)
    fit(second, clips, steps=8, batch=4, progress=False, every=4, out=tmp_path / "part", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True))


# --- the equations ---------------------------------------------------------------------------------------------------------------

def test_fusion_is_equation_4():
    torch.manual_seed(0)
    fusion = Fusion(4, 3, normalise=True)
    decoded, encoded, driver = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8) * 5 + 1, torch.rand(2, 3, 8, 8)
    mean, deviation = encoded.mean(dim=(2, 3), keepdim=True), encoded.std(dim=(2, 3), keepdim=True, correction=0)
    wanted = decoded * (fusion.scale(driver) * (encoded - mean) / deviation + fusion.shift(driver))
    torch.testing.assert_close(fusion(decoded, encoded, driver), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fusion.scale(torch.zeros(1, 3, 8, 8)), torch.ones(1, 4, 8, 8))
    fusion.normalise = False
    plain = decoded * (fusion.scale(driver) * encoded + fusion.shift(driver))
    torch.testing.assert_close(fusion(decoded, encoded, driver), plain)


def test_the_printed_start_starves_the_decoder():
    """With scale and shift near 0 the product is near 0, whatever was decoded (SPECS E5)."""
    torch.manual_seed(0)
    fusion, decoded, encoded = Fusion(4, 3, normalise=True), torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8)
    driver = torch.rand(2, 3, 8, 8)
    ours = fusion(decoded, encoded, driver).std()
    for layer in (fusion.scale, fusion.shift):
        torch.nn.init.zeros_(layer.bias)
    assert fusion(decoded, encoded, driver).std() < 0.1 * ours


def test_a_fresh_decoder_enlarges_without_a_grid_and_at_one_length():
    """Its deconvolutions begin as bilinear upsampling, of mixed channels; what is multiplied has the length 1 at every pixel."""
    torch.manual_seed(0)
    model, seen = Model(Config(**SMALL)), []
    enlarge, x = model.generator.up[0][0][0], torch.rand(1, model.config.channels[1], 8, 8)
    mix = enlarge.weight[:, :, 1, 1] / 0.75**2
    wanted = F.interpolate(torch.einsum("nchw,cd->ndhw", x, mix), scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarge(x)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])
    for fusion in model.generator.fuse.values():
        fusion.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    model.generator(torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    assert len(seen) == 4
    for decoded in seen:
        torch.testing.assert_close(decoded.square().mean(dim=1), torch.ones_like(decoded[:, 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(unit(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten(), torch.tensor([3.0, 4.0]) / 12.5**0.5)


def test_aligned_features_lie_where_the_flow_says():
    """One level, features that are the picture: what is fused is the source warped by the flow."""
    torch.manual_seed(0)
    model = Model(Config(**SMALL))
    seen = {}
    model.generator.fuse["0"].register_forward_pre_hook(lambda module, given: seen.update(zip("den", given, strict=True)))
    world = FaceWorld(3)
    a = world.sample(2, size=32, yaw=(0, 0))
    b = world.rerender(a, pose=a.pose + torch.tensor([0.4, 0, 0]))
    condition = model.condition(Parameters.of(a), Parameters.of(b))
    features = model.generator.encoder(a.image, 0, 1.0)[0]
    model.make(a.image, condition)
    torch.testing.assert_close(seen["e"], warp(features, condition[:, :2] * REACH * 32), atol=1e-5, rtol=0)


def test_conditions_are_what_they_are_called(build, clips):
    a, b = (Parameters.of(clips[k : k + 1]) for k in (0, 1))
    model = build()
    shapes = [place(model.morphable, state, 32) for state in (a, b)]
    torch.testing.assert_close(model.condition(a, b), facial_flow(*shapes, model.morphable.triangles, 32) / 3.2)
    assert model.condition(a, a).abs().max() == 0
    masked = build(mask=True).condition(a, b)
    assert masked.shape == (1, 4, 32, 32) and set(masked[0, 3].unique().tolist()) == {0.0, 1.0}
    assert (masked[:, :3].abs().sum(dim=1) > 0)[masked[:, 3] == 0].sum() == 0 and 0.1 < masked[:, 3].mean() < 0.9
    heat = build(condition="landmarks", **AS_PRINTED).condition(a, b)
    assert heat.shape == (1, 1, 32, 32)
    x, y = clips.landmarks[1].round().long().clamp(0, 31).T
    assert heat[0, 0, y, x].min() > 0.2 and heat.mean() < 0.4, "at the target's landmarks"
    told = build(condition="activations", **AS_PRINTED).condition(a, b)
    assert told.shape == (1, 22, 32, 32) and (told == told[..., :1, :1]).all()
    torch.testing.assert_close(told[0, :, 0, 0], torch.cat([b.expression_coefficients[0], b.pose[0]]))


def test_heat_and_weights_by_hand():
    landmarks = torch.full((1, 68, 2), 5.0)
    landmarks[0, 48:, 0], landmarks[0, 48:, 1] = 20.0, 24.0
    heat = heat_map(landmarks, 32)
    assert heat[0, 0, 24, 20] == 1 and heat[0, 0, 5, 5] == 1 and heat[0, 0, 24, 21] == pytest.approx(torch.tensor(-2.0).exp().item())
    weight = feature_weights(landmarks, 32, 3.0)
    assert set(weight.unique().tolist()) == {1.0, 3.0}
    assert (weight[0, 0, 23:26, 19:22] == 3).all() and weight[0, 0, 24, 22] == 1 and weight[0, 0, 22, 20] == 1, "wider by 1.6 px"
    assert (feature_weights(landmarks, 32, 1.0) == 1).all()


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_each_term_by_its_formula(build, clips, player):
    model = build(pixel_weight=7.0, perceptual_weight=3.0, penalty=2.0)
    batch = model.draw(clips, 4, seeded())
    terms = model.eval().losses(batch, player)
    made = model.generator(batch["source"], batch["condition"])
    gap = model.critic(batch["target"]).mean() - model.critic(made).mean()
    if player == "critic":
        assert set(terms) == {"adversarial", "penalty"}
        penalty = gradient_penalty(model.critic, batch["target"], made, batch["mix"])
        torch.testing.assert_close(terms["penalty"], 2 * penalty, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(terms["adversarial"], -gap, atol=1e-5, rtol=1e-4)
        return
    torch.testing.assert_close(terms["adversarial"], gap, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(terms["pixels"], 7 * (batch["weight"] * (made - batch["target"]).abs()).mean())
    features = [model.generator.encoder(x, 0, 1.0) for x in (made, batch["target"])]
    assert len(features[0]) == 4
    alike = [[x / x.square().mean(dim=1, keepdim=True).sqrt() for x in maps] for maps in features]
    torch.testing.assert_close(terms["perceptual"], 3 * sum((a - b).abs().mean() for a, b in zip(*alike, strict=True)), rtol=1e-3, atol=0)


def test_the_size_of_features_is_nothing_to_equation_12(build, clips):
    """Neither learning nor growing can change the term by making features larger: they are compared at unit length."""
    model = build().eval()
    batch = model.draw(clips, 4, seeded())
    made = model.generator(batch["source"], batch["condition"])  # by what it is then; louder features would make another picture
    model.generator.forward = lambda *given: made
    before = model.losses(batch)["perceptual"]
    with torch.no_grad():
        for layer in model.generator.encoder.first:
            layer[0].weight.mul_(100)
            layer[0].bias.mul_(100)
        for layer in model.generator.encoder.down:
            for part in layer:
                part[0].bias.mul_(100)
    torch.testing.assert_close(model.losses(batch)["perceptual"], before, rtol=1e-3, atol=0)


def test_gradients_reach_their_owners_only(build, clips):
    model = build()
    batch = model.draw(clips, 4, seeded())
    model.losses(batch, "critic")["adversarial"].backward()
    assert all(p.grad is None for p in model.generator.parameters())
    body = ("body.first.0", "body.down", "answer.3")
    assert all(p.grad is not None for name, p in model.critic.named_parameters() if name.startswith(body))
    model.zero_grad()
    model.critic.requires_grad_(False)
    model.losses(batch, "generator")["perceptual"].backward()
    decoder = [p for p in model.generator.paint[0].parameters()]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in decoder)
    encoder = torch.cat([p.grad.flatten() for p in model.generator.encoder.parameters() if p.grad is not None])
    frozen = build()
    frozen.load_state_dict(model.state_dict())
    made = frozen.generator(batch["source"], batch["condition"])
    features = [frozen.generator.encoder(picture, 0, 1.0) for picture in (made, batch["target"])]
    (frozen.config.perceptual_weight * sum((unit(a) - unit(b)).abs().mean() for a, b in zip(*features, strict=True))).backward()
    leaky = torch.cat([p.grad.flatten() for p in frozen.generator.encoder.parameters() if p.grad is not None])
    assert (encoder - leaky).norm() > 0.05 * leaky.norm(), "the printed term would move T_enc itself (SPECS E9)"


# --- pairs -----------------------------------------------------------------------------------------------------------------------

def test_pairs_are_two_frames_of_one_clip(build, clips):
    model = build(still=0.0)
    batch = model.draw(clips, 200, seeded())
    flat = clips.image.flatten(1)
    rows = [torch.cdist(batch[name].flatten(1), flat).argmin(dim=1) for name in ("source", "target")]
    assert (clips.identity[rows[0]] == clips.identity[rows[1]]).all() and (rows[0] != rows[1]).all()
    assert len(set(zip(*(r.tolist() for r in rows), strict=True))) > 80, "of 120 there are"
    same = build(still=1.0).draw(clips, 20, seeded())
    assert torch.equal(same["source"], same["target"]) and same["condition"].abs().max() == 0


def test_frames_that_make_no_pair(build, clips):
    with pytest.raises(ClipError, match="two frames"):
        Model(Config(**SMALL)).prepare(FaceWorld(3).sample(4, size=32))
    mixed = FaceBatch.cat([FaceWorld(3).sample(1, size=32, start=900), clips, FaceWorld(3).sample(1, size=32, start=901)])
    model = Model(Config(**SMALL, still=0.0))
    batch = model.draw(mixed, 64, seeded())
    alone = mixed.image[[0, -1]].flatten(1)
    assert min(torch.cdist(batch[name].flatten(1), alone).min() for name in ("source", "target")) > 1, "nobody is paired with a stranger"
    with pytest.raises(MissingTruthError):
        model.prepare(FaceBatch(clips.image))


def test_clips_are_kept_apart_and_so_are_people(clips):
    """One person in two clips, and two people in clips of one number: four groups, no pair across them."""
    frames = FaceBatch(clips.image[:8], identity=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), clip=torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]),
                       **{name: getattr(clips, name)[:8] for name in ("landmarks", *Parameters._fields)})  # fmt: skip
    model = Model(Config(**SMALL, still=0.0))
    batch = model.draw(frames, 100, seeded())
    rows = [torch.cdist(batch[name].flatten(1), frames.image.flatten(1)).argmin(dim=1) for name in ("source", "target")]
    assert (rows[0] // 2 == rows[1] // 2).all() and (rows[0] != rows[1]).all() and len(rows[0].unique()) == 8


def test_other_faces_than_were_prepared_are_prepared(build, clips):
    model = build()
    others = clips[10:20]
    batch = model.draw(others, 40, seeded())
    assert torch.cdist(batch["source"].flatten(1), others.image.flatten(1)).amin(dim=1).max() < 0.5  # of frames 10 apart


@pytest.mark.parametrize("photographs", [False, True])
def test_regressed_shapes_are_one_persons(build, clips, photographs):
    """As many identities as clips, each the mean of what was found; photographs are regressed whatever the configuration says."""
    model = Model(Config(**SMALL, shapes="exact" if photographs else "regressed"))
    model.use_regressor(finder_that_sees())
    faces = FaceBatch(clips.image, landmarks=clips.landmarks, identity=clips.identity) if photographs else clips
    model.prepare(faces)
    found, kept = model.fit_shape(clips.image), model._frames.state
    torch.testing.assert_close(kept.pose, found.pose)
    mean = found.identity_coefficients.unflatten(0, (6, 5)).mean(dim=1).repeat_interleave(5, dim=0)
    torch.testing.assert_close(kept.identity_coefficients, mean)
    assert mean.unique(dim=0).shape[0] == 6


def finder_that_sees():
    """A regressor that has learnt nothing, but answers differently to every picture."""
    torch.manual_seed(1)
    return awake(Regressor(RegressorConfig(size=32, width=4, hidden=16)), FaceWorld(3).sample(20, size=32).image)


# --- verbs -----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("config", [{}, {"variant": "one_stream", "align": False}])
def test_every_frame_is_made_from_the_first_picture(build, clips, config):
    model = build(**config).eval()
    own, others = Parameters.of(clips[:1]), Parameters.of(clips[1:5])
    encoded = []
    model.generator.encoder.register_forward_pre_hook(lambda module, given: encoded.append(len(given[0])))
    made = model.animate(clips.image[:1], others, own, batch=3)
    assert encoded == ([3, 1] if config else [1, 1]), "the picture is encoded once for all frames, unless the flow goes in with it"
    told = model.condition(own.rows([0] * 4), others)
    torch.testing.assert_close(made, model.make(clips.image[:1].expand(4, -1, -1, -1), told), atol=1e-4, rtol=0)
    alone = model.animate(clips.image[:1], others.rows(slice(3, None)), own)
    torch.testing.assert_close(made[3:], alone, atol=1e-4, rtol=0)
    assert made.shape == (4, 3, 32, 32)


@pytest.mark.parametrize(("keep", "follows"), [
    (("identity", "camera"), {"expression", "pose"}), (("identity", "expression", "camera"), {"pose"}),
    (("identity", "pose", "camera"), {"expression"}), (("identity",), {"expression", "pose", "camera"}),
])  # fmt: skip
def test_reenactment_keeps_what_it_is_told_to(build, clips, monkeypatch, keep, follows):
    model, asked = build().eval(), []
    monkeypatch.setattr(model, "condition", lambda a, b: asked.append((a, b)) or torch.zeros(len(b.pose), 3, 32, 32))
    own, driver = Parameters.of(clips[:1]), clips[5:8]
    assert model.reenact(clips.image[:1], driver, keep, own).shape == (3, 3, 32, 32)
    (source, target), theirs = asked[0], Parameters.of(driver)
    for name, mine, found, others in zip(("identity", "expression", "pose", "camera"), source, target, theirs, strict=True):
        torch.testing.assert_close(found, others if name in follows else mine, msg=name)


def test_shapes_come_from_the_truth_or_from_the_pictures(build, clips):
    model = build().eval()
    model.use_regressor(finder_that_sees())
    source, driver = clips[:1], clips[5:8]
    exact = model.reenact(source, driver)
    torch.testing.assert_close(exact, model.reenact(source.image, Parameters.of(driver), shape=Parameters.of(source)))
    regressed = model.reenact(source.image, driver.image, "identity")
    mine, theirs = model.fit_shape(source.image), model.fit_shape(driver.image)
    theirs = theirs._replace(identity_coefficients=mine.identity_coefficients.expand(3, -1))
    torch.testing.assert_close(regressed, model.animate(source.image, theirs, mine))
    assert (regressed - exact).abs().max() > 0.01


def test_what_cannot_be_animated(build, clips):
    model, own = build(), Parameters.of(clips[:1])
    with pytest.raises(ClipError, match="one picture"):
        model.reenact(clips.image[:2], clips[5:8], shape=own)
    with pytest.raises(ClipError, match="one shape"):
        model.reenact(clips.image[:1], clips[5:8], shape=Parameters.of(clips[:2]))
    with pytest.raises(ClipError, match="hat"):
        model.reenact(clips.image[:1], clips[5:8], ("hat",), own)
    with pytest.raises(ClipError, match="one picture"):
        model.animate(clips.image[:2], Parameters.of(clips[2:4]), own)
    with pytest.raises(ClipError, match="one shape"):
        model.animate(clips.image[:1], Parameters.of(clips[2:4]), Parameters.of(clips[:2]))
    with pytest.raises(ShapeError, match="got 2 for 3"):
        model.make(clips.image[:2], torch.zeros(3, 3, 32, 32))
    with pytest.raises(ShapeError, match="32"):
        model.animate(torch.zeros(1, 3, 64, 64), Parameters.of(clips[2:4]), own)
    for wrong in ({"condition": "smell"}, {"variant": "thin"}, {"shapes": "guessed"}, {"condition": "landmarks"}, {"variant": "one_stream"},
                  {"size": 48}, {"start": 24}):  # fmt: skip
        with pytest.raises(ShapeError):
            Model(Config(**{**SMALL, **wrong}))


# --- learning --------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes", [
    {}, AS_PRINTED, {"variant": "one_stream", **AS_PRINTED}, {"variant": "single_layer", **AS_PRINTED},
    {"condition": "landmarks", **AS_PRINTED}, {"condition": "activations", **AS_PRINTED},
], ids=["aligned", "printed", "one stream", "single layer", "landmarks", "activations"])  # fmt: skip
def test_every_variant_takes_steps_and_can_be_kept(build, clips, tmp_path, changes):
    model = build(**changes)
    history = fit(model, clips, steps=6, batch=4, progress=False, log_every=2)
    assert all(key in history[-1] for key in ("critic/adversarial", "critic/penalty", "generator/pixels", "generator/perceptual"))
    save_weights(model, tmp_path / "f3a.safetensors", {})
    again = load_weights(Model, Config, tmp_path / "f3a.safetensors")
    batch = model.draw(clips, 3, seeded())
    kept, had = (network.make(batch["source"], batch["condition"]) for network in (again, model))
    torch.testing.assert_close(kept, had, atol=0.02, rtol=0)


def test_it_learns_to_move_a_face(build, clips):
    """Thirty frames by heart: nearer to the target than the source is."""
    model = build(width=3, still=0.0)
    pairs = model.draw(clips, 60, seeded(9))
    fit(model, clips, steps=100, batch=12, learning_rate=2e-3, betas=(0.5, 0.99), progress=False)
    made = model.make(pairs["source"], pairs["condition"])
    gain = (psnr(made, pairs["target"]) - psnr(pairs["source"], pairs["target"])).mean()
    print(gain)
    assert gain > 0.5, gain


@pytest.mark.gpu
def test_it_trains_on_a_gpu(build, clips):
    """In bfloat16 under autocast, fading in; and a model on the GPU is animated from a picture there."""
    model = build(grow=2)
    history = fit(model, clips, steps=8, batch=4, progress=False, log_every=1)
    assert all(torch.isfinite(torch.tensor([value for row in history for value in row.values()])))
    model.use_regressor(finder_that_sees())
    model.cuda()
    assert model.reenact(clips.image[:1].cuda(), clips.image[5:8].cuda()).device.type == "cuda"


@pytest.mark.parametrize("config", [{}, AS_PRINTED])
def test_half_precision_on_the_way(build, clips, config):
    """What autocast does on a GPU, on the CPU: pictures made in bfloat16 beside true ones in float32."""
    model = build(**config)
    batch = model.draw(clips, 4, seeded())
    for player in model.players():
        with torch.autocast("cpu", torch.bfloat16):
            terms = model.losses(batch, player)
        sum(terms.values()).backward()
        assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values()), player
