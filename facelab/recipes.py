"""How every shipped weight file was trained, as one call each; and the same networks fine-tuned on photographs.

``python -m facelab.recipes`` (``make weights``) trains all of them from scratch, in dependency order.
"""
from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

import facelab
from facelab.blocks import FeatureNetwork, load_weights, save_weights, shipped
from facelab.blocks.features import Config as FeatureConfig
from facelab.blocks.regressor import Regressor
from facelab.core import PROFILES, FacelabError, ShapeError, cache_folder
from facelab.evaluation.judge import Config as JudgeConfig
from facelab.evaluation.judge import Judge
from facelab.faces import EXPRESSIONS, FaceWorld, Photos
from facelab.faces.world.cache import FaceCache
from facelab.papers import af_vae, equilibrium_cvae, f3a_gan, facefeat_gan, fvae
from facelab.training import cosine, fit


class RecipeError(FacelabError):
    """There is no such recipe, or it cannot be followed as asked."""


def _nothing(model: nn.Module, faces: Any, recipe: Recipe, **run: Any) -> None:
    """run: out, resume and progress of ``fit``."""


@dataclass(frozen=True)
class Recipe:
    """Which faces a network sees, and how it is trained on them."""

    make: Callable[[Any, Recipe], nn.Module]  # training faces, this recipe -> the network, ready to be trained
    steps: int
    batch: int
    learning_rate: float | Mapping[str, float]  # of all players, or of each
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's
    warmup: int = 100  # steps
    schedule: Callable[[float], float] = cosine  # after the warm-up
    world: int = 1  # seed of the FaceWorld; methods train on 1, the judge on 2, and what is shown and measured is 0
    faces: int = 48_000  # in its cache
    people: int = 8_000
    yaw: float = 90.0  # degrees to either side, as the next two
    pitch: float = 20.0
    roll: float = 10.0
    expressions: tuple[str, ...] | None = None  # None: all
    sitting: int = 1  # pictures of one person in one light; where there are several, every sitting is of another person
    still: bool = True  # a sitting's people hold their heads still
    size: int = 64  # side of the pictures, px
    clip_value: float | None = None
    patience: int | None = None  # early stopping: validations, on a twentieth more faces, of other people, without a new best one
    seed: int = 0  # of the first weights and of the batches
    printed: Callable[[Recipe], Recipe] = lambda recipe: recipe  # what profile "paper" changes besides SIZES
    begin: Callable[..., None] = _nothing  # what comes before training
    finish: Callable[..., None] = _nothing  # what is left after it

    @property
    def shots(self) -> dict[str, Any]:
        """How its faces are taken, whoever they are and however large: arguments of :meth:`FaceWorld.sample`."""
        return {"expressions": self.expressions, "sitting": self.sitting, "still": self.still,
                "yaw": (-self.yaw, self.yaw), "pitch": (-self.pitch, self.pitch), "roll": (-self.roll, self.roll)}  # fmt: skip


def _some(faces: Any, count: int) -> Any:
    return faces[torch.arange(min(count, len(faces)))]


def _features(faces: Any, recipe: Recipe) -> FeatureNetwork:
    some = _some(faces, 2000)
    model = FeatureNetwork(FeatureConfig(size=recipe.size, truths=FeatureNetwork.truths(some).shape[1]))
    model.standardise(some)
    return model


def _finish_features(model: FeatureNetwork, faces: Any, recipe: Recipe, **run: Any) -> None:
    model.calibrate(_some(faces, 500).image)
    model.graduate()


def _judge(faces: Any, recipe: Recipe) -> Judge:
    identity, appearance, expression = _some(faces, 1).require("identity_coefficients", "appearance", "expression_coefficients")
    traits = identity.shape[1] + appearance.shape[1]
    model = Judge(JudgeConfig(size=recipe.size, people=recipe.people, traits=traits, expressions=expression.shape[1]))
    model.prepare(faces)
    return model


def prepared(network: Any, **config: Any) -> Callable[[Any, Recipe], nn.Module]:
    def make(faces: Any, recipe: Recipe) -> nn.Module:
        model = network(network.Config(size=recipe.size, **config))
        model.prepare(faces)
        return model

    return make


def _begin_fvae(model: fvae.Model, faces: Any, recipe: Recipe, *, out: Path, resume: bool, progress: bool) -> None:
    """A third of the steps more, without the mouths that open: beside their errors, several times as large, no smile is learnt (07)."""
    if model.config.head == "rgb":
        return
    calm = torch.tensor([EXPRESSIONS.index(name) for name in recipe.expressions if name not in ("surprise", "scream")])
    shown = torch.cat([faces[rows].expression for rows in torch.arange(len(faces)).split(1000)])
    some = Subset(faces, torch.isin(shown, calm).nonzero()[:, 0])
    model.prepare(some)
    _fit(model, some, replace(recipe, steps=max(1, recipe.steps // 3)), out=out / "calm", resume=resume, progress=progress)
    model.prepare(faces)


def _finish_fvae(model: fvae.Model, faces: Any, recipe: Recipe, *, out: Path, resume: bool, progress: bool) -> None:
    """The mean code of every expression; then the mask, on frozen f and g (3.2), in a run of its own inside the first's folder."""
    model.remember(faces)
    if model.config.head == "rgb":
        return
    mask = fvae.Confidence(model)
    mask.prepare(faces, torch.Generator().manual_seed(recipe.seed))
    _fit(mask, faces, replace(recipe, steps=max(1, recipe.steps // 5)), out=out / "mask", resume=resume, progress=progress)
    mask.given.eval()  # and home from where it was trained


def _begin_facefeat(model: facefeat_gan.Model, faces: Any, recipe: Recipe, *, out: Path, resume: bool, progress: bool) -> None:
    """Twice as many steps before the game as it will have, and longer ones: nobody plays yet."""
    if "reconstruction" not in model.config.without:
        first = replace(recipe, steps=2 * recipe.steps, learning_rate=3e-3)
        _fit(facefeat_gan.Rebuilding(model), faces, first, out=out / "rebuilding", resume=resume, progress=progress)


def _finish_facefeat(model: facefeat_gan.Model, faces: Any, recipe: Recipe, *, out: Path, resume: bool, progress: bool) -> None:
    """Half of the steps more for the first stage, eight times as many faces in each, in a run of its own inside the first's folder."""
    if "features" in model.config.without:
        return
    stage = facefeat_gan.FirstStage(model)
    stage.prepare(faces)
    longer = replace(recipe, steps=max(1, recipe.steps // 2), batch=8 * recipe.batch)
    _fit(stage, faces, longer, out=out / "first_stage", resume=resume, progress=progress)


def _f3a(faces: Any, recipe: Recipe) -> nn.Module:
    """Each side but the last is the largest for a fifth of the steps, however many there are."""
    return prepared(f3a_gan.Model, grow=max(1, recipe.steps // 5))(faces, recipe)


def _paper(room: Any) -> Callable[[Any, Recipe], nn.Module]:
    def make(faces: Any, recipe: Recipe) -> nn.Module:
        model = room.Model(room.Config(size=recipe.size))
        model.prepare(faces, torch.Generator().manual_seed(recipe.seed))
        return model

    return make


_SITTINGS = {
    "expressions": ("neutral", "smile", "surprise", "squint", "disgust", "scream"),  # MultiPIE's
    "sitting": 6, "faces": 12_000, "yaw": 8.0, "pitch": 8.0, "roll": 4.0, "size": 128, "batch": 16, "betas": (0.9, 0.999),
    "learning_rate": 1e-3,
    "clip_value": 100.0,  # the printed 5 cuts most elements of so narrow a network's gradient: its codes fall silent
    "patience": 2, "begin": _begin_fvae, "finish": _finish_fvae,
}  # fmt: skip
# 3/16 of Fig. 3's channels; with the printed prior of 0.003 the codes of so narrow a network, so briefly trained, fall silent
_NARROW = {"width": 3 / 16, "mask_width": 1 / 3, "prior_weight": 1e-5}
_PRINTED = {"size": 128, "learning_rate": 3e-4, "clip_value": 5.0, "begin": _nothing}


def _printed_rate(progress: float) -> float:
    """FaceFeat-GAN's: 8e-5, after half of its 200,000 steps 5e-5 (section 4)."""
    return 1.0 if progress < 0.5 else 5 / 8


_FACEFEAT_RATES = {"feature_discriminators": 3e-3, "image_discriminator": 2e-3, "feature_generators": 3e-3, "image_generator": 2e-3,
                   "encoders": 1e-3}
_PRINTED_FACEFEAT = {"size": 128, "steps": 200_000, "batch": 96, "learning_rate": 8e-5, "warmup": 0, "schedule": _printed_rate,
                     "begin": _nothing, "finish": _nothing}


def _at_128(recipe: Recipe) -> Recipe:
    return replace(recipe, size=128)


RECIPES = {
    "features": Recipe(_features, steps=900, batch=64, learning_rate=1e-3, betas=(0.9, 0.999), warmup=0,
                       finish=_finish_features),
    "judge": Recipe(_judge, steps=3000, batch=64, learning_rate=2e-3, world=2, people=6_000, pitch=25.0, roll=20.0,
                    finish=lambda model, faces, recipe, **run: model.remember(faces)),
    "equilibrium_cvae": Recipe(_paper(equilibrium_cvae), steps=3500, batch=16, learning_rate=1.5e-3),
    "af_vae": Recipe(_paper(af_vae), steps=4500, batch=16, learning_rate=2e-3),
    "fvae": Recipe(prepared(fvae.Model, **_NARROW), **_SITTINGS, steps=4500,
                   printed=lambda recipe: replace(recipe, make=prepared(fvae.Model, relative=False), **_PRINTED)),
    "fvae_rgb": Recipe(prepared(fvae.Model, head="rgb", **_NARROW | {"width": 1 / 8}), **_SITTINGS, steps=1500,
                       printed=lambda recipe: replace(recipe, make=prepared(fvae.Model, head="rgb", relative=False), **_PRINTED)),
    "regressor": Recipe(prepared(Regressor), steps=3000, batch=64, learning_rate=2e-3, faces=32_000, printed=_at_128),
    "f3a_gan": Recipe(_f3a, steps=3500, batch=16, learning_rate=2e-3, betas=(0.5, 0.99), faces=12_000, sitting=6,
                      still=False, yaw=45.0, pitch=12.0, roll=8.0, size=128, printed=_at_128),
    "recogniser": Recipe(prepared(facefeat_gan.Recogniser), steps=3000, batch=64, learning_rate=2e-3, betas=(0.9, 0.999), faces=32_000,
                         people=4_000, yaw=60.0, finish=lambda model, faces, recipe, **run: model.graduate()),
    "facefeat_gan": Recipe(prepared(facefeat_gan.Model), steps=3000, batch=16, learning_rate=_FACEFEAT_RATES, betas=(0.5, 0.99),
                           faces=32_000, sitting=4, still=False, yaw=45.0, pitch=12.0, roll=8.0,
                           begin=_begin_facefeat, finish=_finish_facefeat,
                           printed=lambda recipe: replace(recipe, **_PRINTED_FACEFEAT)),
}  # fmt: skip
"""Name of a weight file -> how it is trained, in the order in which they depend on each other (AF-VAE matches features)."""

SIZES: dict[str, dict[str, int]] = {
    "smoke": {"faces": 256, "people": 64, "steps": 20}, "cpu": {}, "gpu": {"size": 128, "batch": 64}, "paper": {"size": 256, "batch": 64},
}  # fmt: skip
"""What a profile changes in a recipe; ``cpu`` is how the shipped files were made."""


def train(
    name: str, out: str | Path, *, profile: str = "cpu", photos: str | Path | None = None, steps: int | None = None, seed: int = 0,
    resume: bool = False, progress: bool = True,
) -> Path:  # fmt: skip
    """Follows a recipe; with ``photos``, the shipped network is fine-tuned on photographs of the people that ``held_out`` leaves.

    Args:
        name: of RECIPES. out: folder of the run (``fit``'s files), and of the weights when it is done.
        profile: changes the recipe as SIZES says. steps: others than the recipe's.
        photos: prepared folder, its pictures as large as the network's; a method's, since photographs lack the truths of made faces.
        seed: another than the recipe's.
        resume: go on with the run in ``out``.

    Returns: the weight file, ``out/NAME.safetensors``; its header tells all of this.
    Raises: RecipeError for a name, profile or number that there is not; AssetError, TrainingError, DivergedError as they come.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe called {name!r}; there are {', '.join(RECIPES)}")
    if profile not in PROFILES:
        raise RecipeError(f"no profile called {profile!r}; there are {', '.join(PROFILES)}")
    recipe = replace(RECIPES[name], seed=seed, **SIZES[profile])
    if profile == "paper":
        recipe = recipe.printed(recipe)
    if steps:
        recipe = replace(recipe, steps=steps)
    if photos is not None:
        rate = recipe.learning_rate
        rate = {player: value / 5 for player, value in rate.items()} if isinstance(rate, Mapping) else rate / 5
        recipe = replace(recipe, steps=steps or recipe.steps // 4, learning_rate=rate)
    return follow(name, recipe, out, photos=photos, resume=resume, progress=progress)


def follow(
    name: str, recipe: Recipe, out: str | Path, *, photos: str | Path | None = None, resume: bool = False, progress: bool = True
) -> Path:
    """:func:`train` with a recipe of your own, such as ``replace(RECIPES["fvae"], size=64)``; returns and raises what it does."""
    torch.manual_seed(recipe.seed)
    faces, model, told = _photographs(name, photos) if photos else _made(recipe)
    if not photos:
        recipe.begin(model, faces, recipe, out=Path(out), resume=resume, progress=progress)
    validate = None if photos or recipe.patience is None else _on_others(model, faces, recipe)
    history = _fit(model, faces, recipe, out=out, resume=resume, progress=progress, validate=validate,
                   patience=validate and recipe.patience)  # fmt: skip
    recipe.finish(model, faces, recipe, out=Path(out), resume=resume, progress=progress)
    kept = {key: value for key, value in asdict(recipe).items() if not callable(value)}
    if photos:
        kept = {key: kept[key] for key in ("steps", "batch", "learning_rate", "betas", "warmup", "clip_value", "seed")}
    path = Path(out) / f"{name}.safetensors"
    save_weights(model, path, kept | told | {"seconds": round(history[-1]["seconds"])})
    return path


def _fit(model: nn.Module, faces: Any, recipe: Recipe, **run: Any) -> list[dict[str, float]]:
    """``fit`` as the recipe says; ``run``: its other arguments."""
    rate = recipe.learning_rate
    if isinstance(rate, Mapping):  # an ablation may have lost a player
        rate = {player: rate[player] for player in model.players()}
    return fit(
        model, faces, steps=recipe.steps, batch=recipe.batch, seed=recipe.seed, learning_rate=rate, betas=recipe.betas,
        schedule=recipe.schedule, warmup=recipe.warmup, clip_value=recipe.clip_value, **run,
    )  # fmt: skip


def _made(recipe: Recipe) -> tuple[Any, nn.Module, dict[str, Any]]:
    faces = _cached(recipe, recipe.faces, 0)
    return faces, recipe.make(faces, recipe), {}


def _cached(recipe: Recipe, count: int, start: int) -> FaceCache:
    return FaceWorld(recipe.world).cache(
        count, recipe.size, start=start, people=None if recipe.sitting > 1 else recipe.people, **recipe.shots
    )


def _on_others(model: nn.Module, faces: Any, recipe: Recipe) -> Callable[[nn.Module], float]:
    """A model -> the sum of its losses on one batch of people whom it does not learn from."""
    others = _cached(recipe, max(recipe.sitting, recipe.faces // 20), recipe.faces)
    model.prepare(others)
    batch = model.draw(others, 4 * recipe.batch, torch.Generator().manual_seed(recipe.seed))
    model.prepare(faces)

    def validate(model: nn.Module) -> float:
        device = next(model.parameters()).device
        return float(sum(model.losses({name: value.to(device) for name, value in batch.items()}).values()))

    return validate


def _photographs(name: str, folder: str | Path) -> tuple[Any, nn.Module, dict[str, Any]]:
    tunable = (*facelab.TRAINED, "regressor")  # whose landmarks alone are enough to go on learning from (F3A-GAN, Eq. 9)
    if name not in tunable:
        raise RecipeError(f"{name} learns truths that photographs lack; on photographs there are {', '.join(tunable)}")
    photographs = Photos(folder)
    model = facelab.load(name) if name in facelab.TRAINED else load_weights(Regressor, Regressor.Config, shipped(name))
    if photographs.size != model.config.size and name != "regressor":  # which looks at pictures of any size
        raise ShapeError(
            f"{folder} holds pictures of {photographs.size} px, {name} takes {model.config.size}: "
            f"prepare them again with --size {model.config.size}"
        )
    out = held_out(photographs)
    if out.all():
        raise RecipeError(f"{folder} shows one person only: at least two are needed, one to learn from and one to look at")
    told = {"photographs": int((~out).sum()), "held_out": [photographs.people[i] for i in photographs.identity[out].unique().tolist()]}
    faces = Subset(photographs, (~out).nonzero()[:, 0])
    if name == "f3a_gan":
        model.prepare(faces)
    return faces, model, told


def held_out(photographs: Photos) -> Tensor:
    """(N,) bool: what fine-tuning never sees: all that is not "train" where the set is split; else every fifth person by name, the first
    included."""
    split = [row.get("split") for row in photographs.rows]
    if "train" in split and set(split) != {"train"}:
        return torch.tensor([part != "train" for part in split])
    return photographs.identity % 5 == 0


def main() -> int:
    """Trains every shipped weight file from scratch; killed, the same command goes on."""
    runs = cache_folder() / "weights"
    for name in RECIPES:
        print(name, flush=True)
        shutil.copyfile(train(name, runs / name, resume=True), shipped(name))
    shutil.rmtree(runs)  # all are made: the next time starts from scratch
    return 0


if __name__ == "__main__":
    sys.exit(main())
