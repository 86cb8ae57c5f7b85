"""``fit``: one resumable loop over a model's players, on any device that Lightning Fabric knows."""
from __future__ import annotations

import csv
import json
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm.auto import tqdm

from facelab.core import FacelabError

CHECKPOINT, LOG, RUN = "checkpoint.pt", "log.csv", "run.json"
"""What an ``out`` folder holds: the latest state, one line a row of the history, and what was asked for."""

History = list[dict[str, float]]
T = TypeVar("T")


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
            (``Fabric(devices=4, strategy="ddp_find_unused_parameters_true")``); each process trains on its slice of the batch, which is
            all that its BatchNorm sees.

    Returns: one row for every ``log_every`` steps: ``step`` (how many are done), ``seconds`` (of training), every term (mean since the row
        before), ``gradient_norm`` (the same, before clipping), ``learning_rate``, and ``validation`` where there was one. With several
        players the names of the last three kinds start with ``player/``. ``pandas.DataFrame(history)`` plots it.

    Raises:
        TrainingError: arguments that make no sense together; ``out`` holds a run and ``resume`` is False, or another run.
        DivergedError: something is no longer finite; the weights are those before that step, the last checkpoint is kept.
    """
    fabric = fabric or Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if torch.cuda.is_available() else "32-true")
    players = model.players()
    rates = dict(learning_rate) if isinstance(learning_rate, Mapping) else dict.fromkeys(players, learning_rate)
    factor = schedule or (lambda progress: 1.0)
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
    if batch % fabric.world_size:
        raise TrainingError(f"a batch of {batch} does not divide among {fabric.world_size} processes")
    folder = _Folder(out, resume, fabric, {
        "model": f"{type(model).__module__}.{type(model).__qualname__}", "config": asdict(model.config), "faces": len(faces),
        "steps": steps if schedule else None,  # at a constant rate a longer run only goes on
        "batch": batch, "seed": seed, "learning_rate": rates, "betas": betas, "schedule": [factor(t / 8) for t in range(8)],
        "warmup": warmup, "clip_norm": clip_norm, "clip_value": clip_value,
    })  # fmt: skip

    state, history = folder.state or {"step": 0, "seconds": 0.0, "best": None}, folder.history
    start, best = state["step"], state["best"]
    if start > steps:
        raise TrainingError(f"the run in {out} has done {start} steps already: ask for more than {steps}, or take another folder")

    def drawn(k: int) -> dict[str, Tensor]:
        share = batch // fabric.world_size
        mine = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
        return {name: value[mine] for name, value in model.draw(faces, batch, generator_of(seed, k)).items()}

    def patient(done: int) -> bool:
        return patience is None or best is None or done - best["step"] < patience * every

    home = next(model.parameters()).device
    game = _Game(fabric, model, players, betas, clip_norm, clip_value)
    if folder.state:
        game.load(state)
    model.train()
    sums: Counter[str] = Counter()
    began = time.perf_counter() - state["seconds"]
    bar = tqdm(total=steps, initial=start, disable=not progress or not fabric.is_global_zero, desc="fit", unit="step")
    workers = 0 if fabric.device.type == "cpu" else min(4, os.cpu_count() or 1)  # a CPU that trains has no core to spare
    try:
        with bar, closing(_ahead(drawn, range(start, steps if patient(start) else start), workers)) as batches:
            for done, joint in enumerate(batches, start + 1):
                now = {name: rate * factor((done - 1) / steps) * min(1.0, done / max(warmup, 1)) for name, rate in rates.items()}
                try:
                    sums.update(game.step(fabric.to_device(joint), now))
                except FloatingPointError as error:
                    raise DivergedError(
                        f"step {done - 1}: {error}; the weights are those before it, {folder.last()}. A smaller learning_rate, a warmup "
                        "or clip_norm helps most often"
                    ) from None
                bar.update()
                pause = done % every == 0 or done == steps
                if not pause and done % log_every:
                    continue
                count = done - (history[-1]["step"] if history else 0)
                row = {"step": done, "seconds": time.perf_counter() - began} | {name: total / count for name, total in sums.items()}
                row |= {game.prefix(name) + "learning_rate": rate for name, rate in now.items()}
                sums.clear()
                if pause and validate:
                    model.eval()
                    with torch.no_grad():
                        row["validation"] = value = fabric.broadcast(float(validate(model)))
                    model.train()
                    if not math.isfinite(value):
                        raise DivergedError(f"step {done - 1}: validation is {value}; {folder.last()}")
                    if best is None or value < best["value"]:
                        best = {"value": value, "step": done, "model": {k: v.cpu().clone() for k, v in model.state_dict().items()}}
                history.append(row)
                folder.log(row, [*row, "validation"] if validate and not pause else [*row])
                if pause:
                    folder.save({"step": done, "seconds": row["seconds"], "best": best} | game.state())
                bar.set_postfix({name: f"{value:.4g}" for name, value in row.items() if name not in ("step", "seconds")})
                if on_log and fabric.is_global_zero:
                    on_log(history)
                if pause and not patient(done):
                    break
    finally:
        game.over()
        model.eval().to(home)
    if best:
        model.load_state_dict(best["model"])
    return history


def generator_of(seed: int, step: int) -> torch.Generator:
    """The CPU generator that step number ``step`` of a run draws its batch with: a pure function of both numbers."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0]))


class _Game:
    """A model's players and their optimisers, on the devices of a Fabric."""

    def __init__(self, fabric: Fabric, model: nn.Module, players: Mapping[str, list[nn.Parameter]], betas: tuple[float, float],
                 clip_norm: float | None, clip_value: float | None):  # fmt: skip
        self.fabric, self.model, self.players, self.clip_norm, self.clip_value = fabric, model, players, clip_norm, clip_value
        self.learns = {parameter: parameter.requires_grad for parameter in model.parameters()}
        optimizers = [torch.optim.Adam(own, betas=betas, fused=True) for own in players.values()]
        self.wrapped, *ready = fabric.setup(model, *optimizers)
        self.wrapped.mark_forward_method("losses")
        self.optimizers = dict(zip(players, ready, strict=True))

    def prefix(self, player: str) -> str:
        return f"{player}/" if len(self.players) > 1 else ""

    def step(self, batch: Mapping[str, Tensor], rates: Mapping[str, float]) -> dict[str, float]:
        """One step of every player; returns its terms and the norm of its gradient. FloatingPointError: not finite, and not taken."""
        row = {}
        for player, own in self.players.items():
            if len(self.players) > 1:
                self._only(own)
            with self.fabric.autocast():  # on one device the wrapper calls losses directly, without it
                terms = self.wrapped.losses(batch, player)
            self.fabric.backward(sum(terms.values()))
            norm = nn.utils.clip_grad_norm_(own, self.clip_norm or math.inf)
            if self.clip_value:
                nn.utils.clip_grad_value_(own, self.clip_value)
            numbers = torch.stack([*(term.detach().float() for term in terms.values()), norm.float()])  # one wait for the device
            values = dict(zip([*terms, "gradient_norm"], self.fabric.all_reduce(numbers).tolist(), strict=True))
            wrong = [name for name, value in values.items() if not math.isfinite(value)]
            if wrong:
                raise FloatingPointError(f"{', '.join(wrong)} of {player} not finite")
            optimizer = self.optimizers[player]
            for group in optimizer.param_groups:
                group["lr"] = rates[player]
            optimizer.step()
            optimizer.zero_grad()
            row |= {self.prefix(player) + name: value for name, value in values.items()}
        return row

    def _only(self, own: list[nn.Parameter]) -> None:
        """Gradients for one player's parameters and for no other's."""
        mine = set(own)
        for parameter, learns in self.learns.items():
            parameter.requires_grad_(learns and parameter in mine)

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def over(self) -> None:
        """The parameters as they were found: which of them learn, and without gradients."""
        for parameter, learns in self.learns.items():
            parameter.requires_grad_(learns)
            parameter.grad = None


class _Folder:
    """The files of a run, or None of them; only the first process writes."""

    def __init__(self, path: str | Path | None, resume: bool, fabric: Fabric, asked: dict[str, Any]):
        self.path = None if path is None else Path(path)
        self.writes = self.path is not None and fabric.is_global_zero
        self.state: dict[str, Any] | None = None  # of the last checkpoint
        self.history: History = []
        self.lines: list[str] = []  # of the log, up to that checkpoint
        self.saved: int | None = None
        if self.path is None:
            if resume:
                raise TrainingError("nothing to resume from: say in which folder the run is kept (out=...)")
            return
        asked = json.loads(json.dumps(asked, default=str))
        if any((self.path / name).exists() for name in (CHECKPOINT, LOG, RUN)):
            if not resume:
                raise TrainingError(f"{self.path} holds a run already: resume=True (--resume) goes on with it; or give another folder")
            self._open(asked)
        fabric.barrier()  # nobody looks after the first process has begun to write
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            _replace(self.path / RUN, lambda file: file.write(json.dumps(asked, indent=1).encode()))
            _replace(self.path / LOG, lambda file: file.write("".join(self.lines).encode()))

    def _open(self, asked: dict[str, Any]) -> None:
        try:
            before = json.loads((self.path / RUN).read_text())
            if (self.path / CHECKPOINT).exists():
                self.state = torch.load(self.path / CHECKPOINT, map_location="cpu", weights_only=True)
                self.saved = self.state["step"]
                lines = (self.path / LOG).read_text().splitlines(keepends=True)
                end = next(i for i, line in enumerate(lines) if line.startswith(f"{self.saved},"))
                self.lines = lines[: end + 1]
                for row in csv.DictReader(self.lines):
                    self.history.append({name: float(text) for name, text in row.items() if text} | {"step": int(row["step"])})
        except Exception as error:  # torch.load raises many kinds for a broken file
            raise TrainingError(f"the run in {self.path} cannot be read ({error}): delete the folder and train again") from None
        changed = [f"{key} was {before.get(key)!r}, is {asked[key]!r}" for key in asked if before.get(key) != asked[key]]
        if changed:
            raise TrainingError(f"{self.path} holds another run ({'; '.join(changed)}): ask for the same, or give another folder")

    def log(self, row: Mapping[str, float], columns: list[str]) -> None:
        if self.writes:
            with open(self.path / LOG, "a", newline="") as file:
                writer = csv.DictWriter(file, columns, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, whole or not at all; DivergedError rather than one with a weight that is not finite."""
        weights = state["model"].items()
        wrong = [name for name, value in weights if value.is_floating_point() and not value.isfinite().all()]
        if wrong:
            raise DivergedError(f"step {state['step'] - 1}: {', '.join(wrong)} not finite; {self.last()}")
        if self.writes:
            _replace(self.path / CHECKPOINT, partial(torch.save, state))
        self.saved = state["step"] if self.path else None

    def last(self) -> str:
        """Where the last good state is, in words."""
        return f"{self.path / CHECKPOINT} holds step {self.saved}" if self.saved else "no checkpoint was written"


def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """A file's new content, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _ahead(make: Callable[[int], T], numbers: Sequence[int], workers: int) -> Generator[T, None, None]:
    """``map(make, numbers)``, the coming results already being made in ``workers`` threads."""
    if not workers:
        yield from map(make, numbers)
        return
    with ThreadPoolExecutor(workers) as pool:
        coming: deque[Future[T]] = deque()
        for number in numbers:
            coming.append(pool.submit(make, number))
            if len(coming) > workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
