"""``fit``: one resumable loop over a model's players, on any device that Lightning Fabric knows."""
from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm.auto import tqdm

from facelab.core import FacelabError

CHECKPOINT, LOG, RUN = "checkpoint.pt", "log.csv", "run.json"
"""What an ``out`` folder holds: the latest state, one line a row of the history, and what was asked for."""

History = list[dict[str, float]]


class TrainingError(FacelabError):
    """A run that cannot start, or cannot go on from what its folder holds."""


class DivergedError(TrainingError):
    """A loss, gradient or weight is no longer finite."""


def cosine(progress: float) -> float:
    r"""Schedule :math:`\tfrac12 (1 + \cos \pi t)`, from 1 at the start (t = 0) to 0 at the end (t = 1)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def fit(
    model: nn.Module,
    faces: Any,
    *,
    steps: int,
    out: str | Path | None = None,
    resume: bool = False,
    batch: int = 32,
    seed: int = 0,
    learning_rate: float | Mapping[str, float] = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    schedule: Callable[[float], float] | None = None,
    warmup: int = 0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    log_every: int = 50,
    every: int = 500,
    validate: Callable[[nn.Module], float] | None = None,
    patience: int | None = None,
    on_log: Callable[[History], None] | None = None,
    progress: bool = True,
    fabric: Fabric | None = None,
) -> History:
    r"""Trains every player of a model in turn, a step each, with Adam; the model is left trained, in evaluation mode, where it was.

    Step k draws its batch with a generator seeded by (seed, k); then, for every player in the order of ``model.players()``, only its
    parameters take gradients of the sum of ``model.losses(batch, player)`` and move with the rate

    .. math:: \eta_k = \eta\, \min\!\left(1, \tfrac{k + 1}{\text{warmup}}\right) \text{schedule}(k / \text{steps}).

    A step is a pure function of weights, optimiser and k, so a run that was killed goes on where its last checkpoint was, on the CPU bit
    for bit. A step that would spoil the weights (a loss or a gradient that is not finite) is not taken.

    Args:
        model: has ``config``, ``players()``, ``draw(faces, n, generator)`` and ``losses(batch, player)``.
        faces: what ``model.draw`` draws from.
        steps: how many the whole run has, also when it is resumed.
        out: folder for ``log.csv``, ``checkpoint.pt`` and ``run.json``; None: nothing is written.
        resume: go on with the run in ``out`` if there is one.
        batch: faces a step, all processes together.
        seed: of the batches; the model's first weights are the caller's.
        learning_rate: of all players, or one for each name. betas: Adam's.
        schedule: t in [0, 1) -> factor of the learning rate, such as ``cosine``; None: constant. warmup: steps of linear rise.
        clip_norm: largest norm of a player's gradient; clip_value: largest absolute value of its elements. One of the two.
        log_every: steps in a row of the history. every: steps between two checkpoints, and between two validations.
        validate: model -> what should be small; it sees the model in evaluation mode. The best weights are the ones kept at the end.
        patience: stop after so many validations without a new best one.
        on_log: called with the history whenever it grows; live curves are made of it.
        progress: show a bar.
        fabric: where to train; None: one device, the GPU in bfloat16 or else the CPU in float32. A Fabric of several processes
            comes launched, with a strategy that allows unused parameters where the model has several players
            (``Fabric(devices=4, strategy="ddp_find_unused_parameters_true")``); each process then trains on its slice of the batch.

    Returns: one row for every ``log_every`` steps: ``step`` (how many are done), ``seconds`` (of training), every term (mean since the row
        before), ``gradient_norm`` (the same, before clipping), ``learning_rate``, and ``validation`` where there was one. With several
        players the names of the last three kinds start with ``player/``. ``pandas.DataFrame(history)`` plots it.

    Raises:
        TrainingError: arguments that make no sense together; ``out`` holds a run and ``resume`` is False, or another run.
        DivergedError: something is no longer finite; the weights are those before that step, the last checkpoint is kept.
    """
    players = model.players()
    rates = dict(learning_rate) if isinstance(learning_rate, Mapping) else dict.fromkeys(players, learning_rate)
    fabric = fabric or Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if torch.cuda.is_available() else "32-true")
    _check(players, rates, steps=steps, batch=batch, seed=seed, log_every=log_every, every=every, clip_norm=clip_norm,
           clip_value=clip_value, validate=validate, patience=patience, processes=fabric.world_size)  # fmt: skip
    factor = schedule or (lambda progress: 1.0)
    asked = {
        "model": f"{type(model).__module__}.{type(model).__qualname__}", "config": asdict(model.config), "faces": len(faces),
        "steps": steps if schedule else None,  # at a constant rate a longer run only goes on
        "batch": batch, "seed": seed, "learning_rate": rates, "betas": betas, "schedule": [factor(t / 8) for t in range(8)],
        "warmup": warmup, "clip_norm": clip_norm, "clip_value": clip_value,
    }  # fmt: skip
    folder = _Folder(out, asked, resume, fabric)

    home = next(model.parameters()).device
    trainable = {p: p.requires_grad for p in model.parameters()}
    optimizers = {name: torch.optim.Adam(own, lr=rates[name], betas=betas, fused=True) for name, own in players.items()}
    wrapped, *ready = fabric.setup(model, *optimizers.values())
    optimizers = dict(zip(players, ready, strict=True))
    wrapped.mark_forward_method("losses")
    prefix = {name: f"{name}/" if len(players) > 1 else "" for name in players}

    start, seconds, best, history = 0, 0.0, None, []
    if state := folder.state:
        start, seconds, best, history = state["step"], state["seconds"], state["best"], folder.read(state["step"])
        model.load_state_dict(state["model"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    if start > steps:
        raise TrainingError(f"the run in {out} has done {start} steps already: ask for more than {steps}, or take another folder")

    def drawn(k: int) -> dict[str, Tensor]:
        whole = model.draw(faces, batch, generator_of(seed, k))
        share = batch // fabric.world_size
        return {name: value[fabric.global_rank * share : (fabric.global_rank + 1) * share] for name, value in whole.items()}

    def step(k: int, joint: Mapping[str, Tensor]) -> dict[str, float]:
        """One step of every player; its terms, gradient norms and rates."""
        row = {}
        for name, own in players.items():
            if len(players) > 1:
                for parameter in trainable:
                    parameter.requires_grad_(False)
                for parameter in own:
                    parameter.requires_grad_(trainable[parameter])
            optimizer = optimizers[name]
            rate = rates[name] * factor(k / steps) * min(1.0, (k + 1) / max(warmup, 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            with fabric.autocast():
                terms = wrapped.losses(joint, name)
            fabric.backward(sum(terms.values()))
            norm = nn.utils.clip_grad_norm_(own, clip_norm or math.inf)
            if clip_value:
                nn.utils.clip_grad_value_(own, clip_value)
            numbers = torch.stack([*(term.detach().float() for term in terms.values()), norm.float()])
            values = dict(zip([*terms, "gradient_norm"], fabric.all_reduce(numbers).tolist(), strict=True))
            bad = [term for term, value in values.items() if not math.isfinite(value)]
            if bad:
                raise DivergedError(
                    f"step {k}: {', '.join(bad)} of {name} is not finite; the weights are those before this step, {folder.last()}. "
                    "A smaller learning_rate, a warmup or clip_norm helps most often"
                )
            optimizer.step()
            optimizer.zero_grad()
            row |= {prefix[name] + term: value for term, value in (values | {"learning_rate": rate}).items()}
        return row

    model.train()
    sums: dict[str, float] = {}
    count, began = 0, time.perf_counter() - seconds
    bar = tqdm(total=steps, initial=start, disable=not progress or not fabric.is_global_zero, desc="fit", unit="step")
    try:
        with ThreadPoolExecutor(1) as pool, bar:  # the next batch is drawn while this one trains
            coming = pool.submit(drawn, start) if start < steps else None
            for k in range(start, steps):
                joint = fabric.to_device(coming.result())
                coming = pool.submit(drawn, k + 1) if k + 1 < steps else None
                row = step(k, joint)
                count += 1
                for name, value in row.items():
                    sums[name] = sums.get(name, 0.0) + value
                bar.update()
                done, stop = k + 1, False
                pause = done % every == 0 or done == steps
                if not pause and done % log_every:
                    continue
                line = {"step": done, "seconds": time.perf_counter() - began}
                line |= {name: row[name] if name.endswith("learning_rate") else total / count for name, total in sums.items()}
                sums, count = {}, 0
                if pause:
                    if validate:
                        line["validation"] = value = _validation(model, validate)
                        if best is None or value < best["value"]:
                            best = {"value": value, "step": done, "model": _copy(model)}
                        stop = patience is not None and done - best["step"] >= patience * every
                history.append(line)
                folder.log(line, validate is not None)
                if pause:
                    state = {"step": done, "seconds": line["seconds"], "model": model.state_dict(), "best": best}
                    folder.save(state | {"optimizers": {name: o.state_dict() for name, o in optimizers.items()}}, model)
                bar.set_postfix({name: f"{value:.4g}" for name, value in line.items() if name not in ("step", "seconds", "learning_rate")})
                if on_log and fabric.is_global_zero:
                    on_log(history)
                if stop:
                    break
    finally:
        for parameter, wanted in trainable.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None
        model.eval().to(home)
    if best:
        model.load_state_dict(best["model"])
    return history


def generator_of(seed: int, step: int) -> torch.Generator:
    """The CPU generator that step number ``step`` of a run draws its batch with: a pure function of both numbers."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0]))


class _Folder:
    """The files of a run; only the first process writes."""

    def __init__(self, path: str | Path | None, asked: dict[str, Any], resume: bool, fabric: Fabric):
        self.path = None if path is None else Path(path)
        self.writes = self.path is not None and fabric.is_global_zero
        self.state: dict[str, Any] | None = None
        self.saved: int | None = None
        if self.path is None:
            if resume:
                raise TrainingError("nothing to resume from: say in which folder (out=...) the run is kept")
            return
        asked = json.loads(json.dumps(asked, default=str))
        run, checkpoint = self.path / RUN, self.path / CHECKPOINT
        if any((self.path / name).exists() for name in (CHECKPOINT, LOG, RUN)):
            if not resume:
                raise TrainingError(f"{self.path} holds a run already: resume=True goes on with it; give a new one another folder")
            before = json.loads(run.read_text()) if run.exists() else {}
            changed = [f"{key} {before.get(key)!r}, now {asked[key]!r}" for key in asked if before.get(key) != asked[key]]
            if changed:
                raise TrainingError(f"{self.path} holds another run ({'; '.join(changed)}): ask for the same, or give another folder")
        if checkpoint.exists():
            try:
                self.state = torch.load(checkpoint, map_location="cpu", weights_only=True)
                self.saved = self.state["step"]
            except Exception as error:  # torch.load raises many kinds for a broken file
                raise TrainingError(f"{checkpoint} cannot be read ({error}): delete {self.path} and train again") from None
        fabric.barrier()  # nobody looks after the first process has begun to write
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(run, json.dumps(asked, indent=1).encode())
            if self.state is None:
                (self.path / LOG).unlink(missing_ok=True)  # killed before its first checkpoint: it starts over

    def read(self, step: int) -> History:
        """The log's rows up to a step; later ones, written after the last checkpoint, are cut off the file."""
        with open(self.path / LOG, newline="") as file:
            rows = list(csv.DictReader(file))
        kept = [row for row in rows if int(row["step"]) <= step]
        if self.writes:
            lines = [",".join(row) for row in ([kept[0].keys()] if kept else []) + [row.values() for row in kept]]
            _write(self.path / LOG, "".join(line + "\n" for line in lines).encode())
        return [{name: int(text) if name == "step" else float(text) for name, text in row.items() if text} for row in kept]

    def log(self, line: dict[str, float], validated: bool) -> None:
        if not self.writes:
            return
        names = [*line, *(["validation"] if validated and "validation" not in line else [])]
        with open(self.path / LOG, "a", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(line)

    def save(self, state: dict[str, Any], model: nn.Module) -> None:
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values() if value.is_floating_point()):
            raise DivergedError(f"step {state['step'] - 1}: a weight is not finite; {self.last()}")
        if self.writes:
            temporary = self.path / f"{CHECKPOINT}.new"
            with open(temporary, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / CHECKPOINT)
        self.saved = state["step"]

    def last(self) -> str:
        """Where the last good state is, in words."""
        if self.path is None or self.saved is None:
            return "no checkpoint was written"
        return f"the last checkpoint ({self.path / CHECKPOINT}) is of step {self.saved}"


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _validation(model: nn.Module, validate: Callable[[nn.Module], float]) -> float:
    model.eval()
    try:
        with torch.no_grad():
            return float(validate(model))
    finally:
        model.train()


def _check(players, rates, *, steps, batch, seed, log_every, every, clip_norm, clip_value, validate, patience, processes) -> None:
    for name, value in {"steps": steps, "batch": batch, "log_every": log_every, "every": every}.items():
        if value < 1:
            raise TrainingError(f"{name} must be at least 1, got {value}")
    if seed < 0:
        raise TrainingError(f"seed must not be negative, got {seed}")
    if set(rates) != set(players):
        raise TrainingError(f"learning_rate names {', '.join(rates)}; the model's players are {', '.join(players)}: give each its rate")
    if clip_norm and clip_value:
        raise TrainingError("gradients are clipped by norm or by value: give clip_norm or clip_value, not both")
    if patience is not None and validate is None:
        raise TrainingError("patience counts validations: give validate as well")
    if batch % processes:
        raise TrainingError(f"a batch of {batch} does not divide among {processes} processes")
