"""Recipes: every weight file can be made again, at a tiny size here; and photographs fine-tune the methods with people held out."""
import csv
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import facelab
from facelab import recipes
from facelab.blocks import FeatureNetwork, load_weights, shipped
from facelab.blocks.regressor import Regressor
from facelab.blocks.weights import made
from facelab.evaluation.judge import Judge
from facelab.faces import EXPRESSIONS, FaceWorld, Photos
from facelab.faces.photos.read import read_picture
from facelab.papers import af_vae, equilibrium_cvae, f3a_gan, facefeat_gan, fvae
from facelab.recipes import RECIPES, RecipeError, held_out, train
from facelab.training import LOG, TrainingError

NETWORKS = {"features": FeatureNetwork, "judge": Judge, "equilibrium_cvae": equilibrium_cvae.Model, "af_vae": af_vae.Model,
            "fvae": fvae.Model, "fvae_rgb": fvae.Model, "regressor": Regressor, "f3a_gan": f3a_gan.Model,
            "recogniser": facefeat_gan.Recogniser, "facefeat_gan": facefeat_gan.Model}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Recipes on 48 faces for two steps; nothing shipped is touched."""
    monkeypatch.setenv("FACELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipes, "SIZES", {"smoke": {"faces": 48, "people": 12, "steps": 2, "batch": 4}})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A prepared folder of 12 made faces of six people, each at rest and smiling."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    faces = FaceWorld(3).sample(12, size=64, expressions=["neutral", "smile"], sitting=2)
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "identity", "expression", "landmarks"])
        for i in range(12):
            Image.fromarray(((faces.image[i].permute(1, 2, 0) + 1) * 127.5).byte().numpy()).save(folder / f"{i:02}.png")
            writer.writerow([f"{i:02}.png", f"p{i // 2}", ("neutral", "smile")[i % 2], json.dumps(faces.landmarks[i].tolist())])
    assert read_picture(folder / "00.png").shape == (64, 64, 3)
    return folder


def test_there_is_a_recipe_for_every_trained_file_in_the_order_of_what_they_need():
    assert set(facelab.TRAINED) < set(RECIPES) and list(NETWORKS) == list(RECIPES)
    assert list(RECIPES).index("features") < list(RECIPES).index("af_vae")
    assert {recipe.world for name, recipe in RECIPES.items() if name != "judge"} == {1} and RECIPES["judge"].world == 2


def test_its_shots_are_the_faces_it_is_trained_on(tiny):
    recipe = replace(RECIPES["fvae"], faces=12, size=16)
    trained_on = recipes._cached(recipe, recipe.faces, 0)[:12]
    torch.testing.assert_close(trained_on.image, FaceWorld(recipe.world).sample(12, size=16, **recipe.shots).image, atol=0.01, rtol=0)
    assert trained_on.pose.rad2deg().abs().amax(dim=0).le(torch.tensor([8.0, 8.0, 4.0]) + 1e-3).all()


@pytest.mark.parametrize("name", RECIPES)
def test_the_shipped_file_is_what_its_recipe_makes(name):
    if not shipped(name).exists():
        pytest.skip("no such weights here yet")
    said = made(shipped(name))
    recipe = RECIPES[name]
    assert {key: said[key] for key in ("steps", "batch", "seed", "world")} == {
        "steps": recipe.steps, "batch": recipe.batch, "seed": recipe.seed, "world": recipe.world,
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_its_file_opens(tiny, tmp_path, name):
    path = train(name, tmp_path / "run", profile="smoke", progress=False)
    assert path == tmp_path / "run" / f"{name}.safetensors" and (tmp_path / "run" / LOG).exists()
    network = load_weights(NETWORKS[name], NETWORKS[name].Config, path)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    said = made(path)
    assert said["steps"] == 2 and said["world"] == RECIPES[name].world and said["yaw"] == RECIPES[name].yaw and said["seconds"] >= 0
    if name == "features":
        assert not torch.equal(network.level, torch.ones(4)), "calibrated when the weights are final"
        assert network.read is None
    if name == "judge":
        assert network.config.people == 12
    if name.startswith("fvae"):
        assert network.known.tolist() == [e in RECIPES[name].expressions for e in EXPRESSIONS], "codes of all expressions it saw"
        assert (tmp_path / "run" / "mask" / LOG).exists() == (name == "fvae"), "the mask learns afterwards"
    if name == "fvae":
        calm, all_ = (json.loads((tmp_path / "run" / part / "run.json").read_text())["faces"] for part in ("calm", ""))
        assert calm == all_ * 4 // 6, "at first without surprise and scream"


def test_the_papers_profile_of_fvae_is_the_printed_one():
    recipe = RECIPES["fvae"].printed(replace(RECIPES["fvae"], **recipes.SIZES["paper"]))
    assert (recipe.batch, recipe.learning_rate, recipe.betas, recipe.clip_value) == (64, 3e-4, (0.9, 0.999), 5.0)  # 5.4
    config = recipe.make(FaceWorld(0).sample(2, size=16, sitting=2), recipe).config
    assert (config.size, config.width, config.prior_weight, config.head) == (128, 1.0, 0.003, "residual")
    assert not config.relative and recipe.begin is RECIPES["judge"].begin, "Z as it is, all expressions at once"


def test_a_run_is_neither_overwritten_nor_lost(tiny, tmp_path):
    first = load_file(train("features", tmp_path, profile="smoke", progress=False))
    with pytest.raises(TrainingError, match="holds a run already"):
        train("features", tmp_path, profile="smoke", progress=False)
    again = load_file(train("features", tmp_path, profile="smoke", resume=True, progress=False))
    assert all(torch.equal(again[name], value) for name, value in first.items())
    with pytest.raises(TrainingError, match="another run .*seed"):
        train("features", tmp_path, profile="smoke", seed=1, resume=True, progress=False)


def test_every_fifth_person_is_held_out(photographs):
    photos = Photos(photographs)
    assert photos.people == ("p0", "p1", "p2", "p3", "p4", "p5")
    assert held_out(photos).tolist() == [name in ("p0", "p5") for name in ("p0", "p1", "p2", "p3", "p4", "p5") for _ in range(2)]


def test_a_set_that_is_split_holds_out_its_own(photographs):
    """What `data_prep` wrote; a set whose people are all for training is split like any other."""
    photos = Photos(photographs)
    parts = ["train", "test", "train", "", "train", "train"]
    for row in photos.rows:
        row["split"] = parts[int(row["identity"][1:])]
    assert held_out(photos).tolist() == [part != "train" for part in parts for _ in range(2)]
    for row in photos.rows:
        row["split"] = "train"
    assert held_out(photos).tolist() == (photos.identity % 5 == 0).tolist()


def test_photographs_fine_tune_the_shipped_network(monkeypatch, photographs, tmp_path):
    start = af_vae.Model(replace(af_vae.Config(), width=8, most=16, code=16))
    start.prepare(Photos(photographs)[:], torch.Generator().manual_seed(0))
    start.eval()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    monkeypatch.setattr(facelab, "load", lambda name: start)
    drawn = []
    draw = start.draw
    monkeypatch.setattr(start, "draw", lambda faces, n, generator: drawn.append(faces) or draw(faces, n, generator))
    path = train("af_vae", tmp_path, photos=photographs, steps=3, progress=False)
    said = made(path)
    assert said["held_out"] == ["p0", "p5"] and said["photographs"] == 8 and said["steps"] == 3
    assert all(8 == len(faces) and not held_out_people(faces) for faces in drawn)
    after = load_weights(af_vae.Model, af_vae.Config, path).state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_photographs_of_two_expressions_fine_tune_fvae_and_its_mask(monkeypatch, photographs, tmp_path):
    start = fvae.Model(fvae.Config(size=64, width=0.0625)).eval()
    monkeypatch.setattr(facelab, "load", lambda name: start)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    tuned = load_weights(fvae.Model, fvae.Config, train("fvae", tmp_path, photos=photographs, steps=5, progress=False))
    assert [e for e, known in zip(EXPRESSIONS, tuned.known.tolist(), strict=True) if known] == ["neutral", "smile"]
    changed = {name.split(".")[0] for name, value in tuned.state_dict().items() if not torch.allclose(value, before[name], atol=1e-3)}
    assert changed >= {"target", "source", "up", "mask"}


def held_out_people(faces):
    return set(faces[torch.arange(len(faces))].identity.tolist()) & {0, 5}


@pytest.mark.parametrize("name, given, message", [
    ("head", {}, "no recipe called 'head'; there are features"), ("af_vae", {"profile": "huge"}, "no profile"),
    ("judge", {"photos": "photos"}, "truths that photographs lack"),
])  # fmt: skip
def test_what_cannot_be_followed_is_named(tmp_path, name, given, message):
    with pytest.raises(RecipeError, match=message):
        train(name, tmp_path, progress=False, **given)


def test_all_weights_in_one_go(tiny, monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    real = recipes.train
    monkeypatch.setattr(recipes, "shipped", lambda name: tmp_path / "weights" / f"{name}.safetensors")
    asked = []

    def quick(name, out, **given):
        asked.append((name, given))
        return real(name, out, profile="smoke", progress=False, **given)

    monkeypatch.setattr(recipes, "RECIPES", {"features": RECIPES["features"], "judge": RECIPES["judge"]})
    monkeypatch.setattr(recipes, "train", quick)
    assert recipes.main() == 0
    assert asked == [("features", {"resume": True}), ("judge", {"resume": True})]
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == ["features.safetensors", "judge.safetensors"]
    assert not (tmp_path / "cache" / "weights").exists(), "the next time starts from scratch"
