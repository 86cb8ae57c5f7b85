"""fit: what it computes, what it writes, how it stops, goes on and shares its work. Run as a script it trains a small model."""
import csv
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F

from facelab.faces import FaceBatch
from facelab.training import CHECKPOINT, LOG, RUN, DivergedError, TrainingError, cosine, fit, generator_of

QUIET = {"progress": False, "fabric": Fabric(accelerator="cpu", devices=1)}


@dataclass(frozen=True)
class Config:
    width: int = 5


class Coder(nn.Module):
    """One player: rebuilds 4 x 4 pictures through a noisy bottleneck."""

    pause = 0.0  # seconds that drawing a batch takes longer

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        self.down, self.up = nn.Linear(48, self.config.width), nn.Linear(self.config.width, 48)

    def players(self):
        return {"coder": list(self.parameters())}

    def draw(self, faces, n, generator):
        time.sleep(self.pause)
        picked = torch.randint(len(faces), (n,), generator=generator)
        return {"image": faces[picked].image, "noise": torch.randn(n, self.config.width, generator=generator)}

    def losses(self, batch, player):
        x = batch["image"].flatten(1)
        code = self.down(x)
        return {"pixels": (self.up(code + 0.1 * batch["noise"]) - x).square().mean(), "code": 0.01 * code.square().mean()}


class Duel(Coder):
    """Two players: the coder also deceives a critic of pictures."""

    def __init__(self, config: Config | None = None):
        super().__init__(config)
        self.critic = nn.Linear(48, 1)
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)  # nobody's

    def players(self):
        return {"critic": [*self.critic.parameters()], "coder": [*self.down.parameters(), *self.up.parameters()]}

    def losses(self, batch, player):
        theirs = [p for name, own in self.players().items() if name != player for p in own]
        mine = self.players()[player]
        assert not any(p.requires_grad or p.grad is not None for p in theirs) and all(p.requires_grad for p in mine)
        x = batch["image"].flatten(1)
        made = self.up(self.down(x) + 0.1 * batch["noise"]) * self.scale
        assert made.requires_grad == (player == "coder"), "the critic's turn builds no graph of the coder"
        if player == "critic":
            return {"real": F.softplus(-self.critic(x)).mean(), "made": F.softplus(self.critic(made)).mean()}
        return {"pixels": (made - x).square().mean(), "deceit": 0.1 * F.softplus(-self.critic(made)).mean()}


def pictures(n=64):
    return FaceBatch(image=torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1)


def fresh(kind=Coder):
    torch.manual_seed(7)
    return kind()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def log(folder):
    with open(Path(folder) / LOG, newline="") as file:
        return list(csv.DictReader(file))


def by_hand(model, faces, steps, batch=8, seed=0, rates=1e-3, betas=(0.9, 0.999), factor=lambda k: 1.0, clip=lambda own: None):
    """The loop without fit."""
    players = model.players()
    adams = {name: torch.optim.Adam(own, betas=betas, fused=True) for name, own in players.items()}
    rows = []
    for k in range(steps):
        drawn = model.draw(faces, batch, generator_of(seed, k))
        rows.append({})
        for name, own in players.items():
            for p in model.parameters():
                p.requires_grad_(any(p is q for q in own))
            terms = model.losses(drawn, name)
            sum(terms.values()).backward()
            clip(own)
            adams[name].param_groups[0]["lr"] = (rates if isinstance(rates, float) else rates[name]) * factor(k)
            adams[name].step()
            adams[name].zero_grad()
            rows[-1] |= {f"{name}/{term}": value.item() for term, value in terms.items()}
    return rows


@pytest.mark.parametrize("given, hand", [
    ({}, {}),
    ({"seed": 3, "learning_rate": 0.02, "betas": (0.5, 0.9)}, {"seed": 3, "rates": 0.02, "betas": (0.5, 0.9)}),
    ({"schedule": cosine, "warmup": 4}, {"factor": lambda k: cosine(k / 12) * min(1, (k + 1) / 4)}),
    ({"clip_norm": 0.05}, {"clip": lambda own: nn.utils.clip_grad_norm_(own, 0.05)}),
    ({"clip_value": 0.003}, {"clip": lambda own: nn.utils.clip_grad_value_(own, 0.003)}),
])  # fmt: skip
def test_fit_is_the_loop_that_one_would_write(given, hand):
    ours, theirs, faces = fresh(), fresh(), pictures()
    history = fit(ours, faces, steps=12, batch=8, log_every=4, **given, **QUIET)
    rows = by_hand(theirs, faces, 12, **hand)
    assert same(ours, theirs) and not same(ours, fresh())
    for i, row in enumerate(history):
        part = rows[4 * i : 4 * i + 4]
        assert row["step"] == 4 * i + 4
        assert row["pixels"] == pytest.approx(sum(r["coder/pixels"] for r in part) / 4, rel=1e-6), "a row is a mean since the one before"
        rate = given.get("learning_rate", 1e-3) * hand.get("factor", lambda k: 1)(row["step"] - 1)
        assert row["learning_rate"] == pytest.approx(rate) and row["gradient_norm"] > 0.05, "the norm is the one before clipping"
    if "clip" in next(iter(hand), ""):
        assert not same(ours, _trained(faces)), "the clip bites"


def _trained(faces, **given):
    model = fresh()
    fit(model, faces, steps=12, batch=8, **given, **QUIET)
    return model


def test_players_take_turns_and_gradients_stay_with_their_owner():
    ours, theirs, faces, rates = fresh(Duel), fresh(Duel), pictures(), {"critic": 0.01, "coder": 0.002}
    history = fit(ours, faces, steps=10, batch=8, learning_rate=rates, log_every=10, **QUIET)
    rows = by_hand(theirs, faces, 10, rates=rates)
    assert same(ours, theirs)
    assert set(history[0]) == {"step", "seconds"} | {
        f"{player}/{name}" for player, terms in {"critic": ["real", "made"], "coder": ["pixels", "deceit"]}.items()
        for name in [*terms, "gradient_norm", "learning_rate"]
    }  # fmt: skip
    assert history[0]["coder/deceit"] == pytest.approx(sum(r["coder/deceit"] for r in rows) / 10, rel=1e-6)
    assert history[0]["critic/learning_rate"] == 0.01
    assert all(p.grad is None for p in ours.parameters())
    assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in fresh(Duel).parameters()], "left as they were found"
    assert not ours.training


def test_the_batch_of_a_step_depends_on_seed_and_step_alone():
    def draw(seed, step):
        return torch.rand(4, generator=generator_of(seed, step))

    assert torch.equal(draw(1, 2), draw(1, 2))
    firsts = torch.stack([draw(seed, step) for seed in range(6) for step in range(6)])
    assert len(firsts.unique(dim=0)) == 36


def test_what_a_run_leaves_in_its_folder(tmp_path):
    out, seen = tmp_path / "deep" / "run", []
    history = fit(fresh(), pictures(), steps=10, batch=8, out=out, log_every=3, every=5, on_log=lambda h: seen.append(len(h)), **QUIET)
    assert [row["step"] for row in history] == [3, 5, 6, 9, 10] and seen == [1, 2, 3, 4, 5]
    assert {p.name for p in out.iterdir()} == {CHECKPOINT, LOG, RUN}, "no temporary file stays"
    assert [{name: float(text) for name, text in row.items()} for row in log(out)] == history
    state = torch.load(out / CHECKPOINT, weights_only=True)
    assert state["step"] == 10 and set(state["optimizers"]) == {"coder"}
    again = fit(fresh(), pictures(), steps=10, batch=8, out=out, log_every=3, every=5, resume=True, **QUIET)
    assert again == history and len(log(out)) == 5, "a finished run has nothing to do"


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path):
    call = [sys.executable, __file__, "train", str(tmp_path / "killed")]
    child = subprocess.Popen([*call, "0.02"], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) >= 45:
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(60) == -signal.SIGKILL
    assert 30 <= torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True)["step"] < 200
    rest = subprocess.run([*call, "0"], check=True, capture_output=True, text=True).stdout.split()
    assert int(rest[0]) > 30, "it does not start over"

    whole = train(fresh(Duel), tmp_path / "whole")
    a, b = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "killed"))
    assert all(torch.equal(value, b["model"][name]) for name, value in a["model"].items())
    for player, adam in a["optimizers"].items():
        for key, value in adam["state"].items():
            assert all(torch.equal(value[name], b["optimizers"][player]["state"][key][name]) for name in value)
    for row, other in zip(whole, log(tmp_path / "killed"), strict=True):  # rows after the last checkpoint are cut off, then come again
        assert all(float(other[name]) == value for name, value in row.items() if name != "seconds")


def test_killed_before_its_first_checkpoint_a_run_starts_over(tmp_path):
    def stop(history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), pictures(), steps=10, batch=8, out=tmp_path, log_every=2, on_log=stop, **QUIET)
    assert len(log(tmp_path)) == 1
    model = fresh()
    fit(model, pictures(), steps=10, batch=8, out=tmp_path, log_every=2, resume=True, **QUIET)
    assert same(model, _fit10()) and [int(row["step"]) for row in log(tmp_path)] == [2, 4, 6, 8, 10]


def _fit10():
    model = fresh()
    fit(model, pictures(), steps=10, batch=8, **QUIET)
    return model


def test_resume_starts_afresh_in_an_empty_folder_and_without_resume_nothing_is_overwritten(tmp_path):
    first = fresh()
    fit(first, pictures(), steps=10, batch=8, out=tmp_path, resume=True, **QUIET)
    assert same(first, _fit10())
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match="holds a run already.*resume=True"):
        fit(fresh(), pictures(), steps=10, batch=8, out=tmp_path, **QUIET)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_at_a_constant_rate_a_run_can_be_made_longer(tmp_path):
    model, whole = fresh(), fresh()
    fit(model, pictures(), steps=6, batch=8, out=tmp_path, log_every=2, **QUIET)
    fit(model := fresh(), pictures(), steps=10, batch=8, out=tmp_path, log_every=2, resume=True, **QUIET)
    fit(whole, pictures(), steps=10, batch=8, **QUIET)
    assert same(model, whole)
    with pytest.raises(TrainingError, match="has done 10 steps already"):
        fit(fresh(), pictures(), steps=8, batch=8, out=tmp_path, resume=True, **QUIET)


@pytest.mark.parametrize("change, what", [
    ({"seed": 1}, "seed"), ({"batch": 4}, "batch"), ({"steps": 20}, "steps"), ({"learning_rate": 0.1}, "learning_rate"),
    ({"warmup": 3}, "warmup"), ({"clip_norm": 1.0}, "clip_norm"), ({"schedule": lambda t: 1 - t}, "schedule"),
    ({"model": Config(width=6)}, "config"), ({"faces": 32}, "faces"),
])  # fmt: skip
def test_resume_refuses_another_run(tmp_path, change, what):
    given = {"steps": 4, "batch": 8, "schedule": cosine, "out": tmp_path, **QUIET}
    fit(fresh(), pictures(), **given)
    kept = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / RUN).read_bytes()
    model, faces = Coder(change.pop("model", None)), pictures(change.pop("faces", 64))
    with pytest.raises(TrainingError, match=rf"another run \({what} was .*, is "):
        fit(model, faces, resume=True, **given | change)
    assert kept == ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / RUN).read_bytes())


@pytest.mark.parametrize("name", [CHECKPOINT, LOG, RUN])
def test_a_damaged_run_is_named(tmp_path, name):
    fit(fresh(), pictures(), steps=4, batch=8, out=tmp_path, **QUIET)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(TrainingError, match="cannot be read"):
        fit(fresh(), pictures(), steps=4, batch=8, out=tmp_path, resume=True, **QUIET)


def test_a_loss_that_is_not_finite_stops_the_run_and_costs_nothing(tmp_path):
    faces = pictures()
    faces.image[17] = float("nan")
    model = fresh()
    with pytest.raises(DivergedError, match="step") as stop:
        fit(model, faces, steps=200, batch=2, every=4, out=tmp_path, **QUIET)
    bad = next(k for k in range(200) if model.draw(faces, 2, generator_of(0, k))["image"].isnan().any())
    assert bad > 8, "the seed meets the bad face only after some checkpoints"
    last = bad // 4 * 4
    assert f"step {bad}: pixels, code, gradient_norm of coder not finite" in str(stop.value)
    assert f"{CHECKPOINT} holds step {last}" in str(stop.value)
    clean = fresh()
    fit(clean, faces, steps=bad, batch=2, **QUIET)
    assert same(model, clean) and not model.training and all(p.grad is None for p in model.parameters())
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == last


class Kink(Coder):
    """A finite loss whose gradient is not."""

    def losses(self, batch, player):
        return super().losses(batch, player) | {"kink": (self.up.weight - self.up.weight.detach()).abs().sqrt().sum()}


def test_a_gradient_that_is_not_finite_is_not_stepped_along():
    model = fresh(Kink)
    with pytest.raises(DivergedError, match="step 0: gradient_norm of coder not finite; .* no checkpoint was written"):
        fit(model, pictures(), steps=5, batch=8, clip_value=1.0, **QUIET)
    assert same(model, fresh(Kink))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    fit(fresh(), pictures(), steps=4, batch=8, out=tmp_path, **QUIET)
    with pytest.raises(DivergedError, match="weight.*not finite; no checkpoint"):
        fit(fresh(), pictures(), steps=1, batch=8, learning_rate=float("inf"), out=tmp_path / "other", **QUIET)
    assert not (tmp_path / "other" / CHECKPOINT).exists()


def test_early_stopping_keeps_the_best_weights(tmp_path):
    values, seen = [3.0, 1.0, 2.0, 1.5, 0.0], []

    def validate(model):
        assert not model.training and not torch.is_grad_enabled()
        seen.append(deepcopy(model))
        return values[len(seen) - 1]

    given = {"steps": 50, "batch": 8, "every": 5, "log_every": 2, "validate": validate, "patience": 2, "out": tmp_path, **QUIET}
    model = fresh()
    history = fit(model, pictures(), **given)
    assert len(seen) == 4 and history[-1]["step"] == 20 and same(model, seen[1])
    assert [row["validation"] for row in history if "validation" in row] == values[:4]
    assert [row["validation"] for row in log(tmp_path) if row["validation"]] == ["3.0", "1.0", "2.0", "1.5"]
    again = fresh()
    assert fit(again, pictures(), resume=True, **given) == history and same(again, seen[1]) and len(seen) == 4, "it stays stopped"


def test_a_validation_that_is_not_finite_stops_the_run():
    with pytest.raises(DivergedError, match="step 3: validation is nan"):
        fit(fresh(), pictures(), steps=8, batch=8, every=4, validate=lambda model: float("nan"), **QUIET)


@pytest.mark.parametrize("given, message", [
    ({"steps": 0}, "steps must be at least 1"), ({"batch": 0}, "batch"), ({"every": 0}, "every"), ({"log_every": 0}, "log_every"),
    ({"seed": -1}, "seed"), ({"clip_norm": 1.0, "clip_value": 1.0}, "not both"), ({"patience": 3}, "give validate"),
    ({"learning_rate": {"cod": 1e-3}}, "players are coder"), ({"resume": True}, "out="),
])  # fmt: skip
def test_arguments_that_make_no_sense_are_named(given, message):
    with pytest.raises(TrainingError, match=message):
        fit(fresh(), pictures(), **{"steps": 2, **given}, **QUIET)


def test_two_processes_do_what_one_does_with_the_joint_batch(tmp_path):
    subprocess.run([sys.executable, __file__, "share", str(tmp_path / "two")], check=True, timeout=300)
    one = fresh(Duel)
    fit(one, pictures(), steps=12, batch=8, learning_rate=0.01, log_every=1, out=tmp_path / "one", **QUIET)
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name in a.keys() - {"seconds"}:
            assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-5)
    two = torch.load(tmp_path / "two" / CHECKPOINT, weights_only=True)["model"]
    assert all(torch.allclose(value, two[name], atol=1e-5) for name, value in one.state_dict().items())


def test_a_batch_that_processes_cannot_share_is_named():
    class Three(Fabric):
        world_size = 3

    with pytest.raises(TrainingError, match="a batch of 8 does not divide among 3 processes"):
        fit(fresh(), pictures(), steps=2, batch=8, fabric=Three(accelerator="cpu", devices=1))


@pytest.mark.gpu
def test_twenty_steps_on_the_gpu_follow_those_on_the_cpu():
    ours, theirs, faces = fresh(Duel), fresh(Duel), pictures()
    ours_history = fit(ours, faces, steps=20, batch=32, learning_rate=0.01, log_every=1, progress=False)  # bfloat16
    history = fit(theirs, faces, steps=20, batch=32, learning_rate=0.01, log_every=1, **QUIET)
    assert next(ours.parameters()).device.type == "cpu", "left where it was"
    for a, b in zip(ours_history, history, strict=True):
        assert a["coder/pixels"] == pytest.approx(b["coder/pixels"], rel=0.05)


def train(model, out, pause=0.0):
    model.pause = pause
    return fit(model, pictures(), steps=200, batch=8, out=out, resume=True, log_every=7, every=30, learning_rate=0.01, schedule=cosine,
               on_log=lambda history: print(history[-1]["step"], flush=True), **QUIET)  # fmt: skip


if __name__ == "__main__":
    task, out, *pause = sys.argv[1:]
    if task == "train":
        train(fresh(Duel), out, float(pause[0]))
    else:
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true")
        fabric.launch()
        fit(fresh(Duel), pictures(), steps=12, batch=8, learning_rate=0.01, log_every=1, out=out, progress=False, fabric=fabric)
