"""Counting arithmetic and seconds, for the benchmarks."""
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from time import perf_counter
from typing import Any

from torch.utils.flop_counter import FlopCounterMode


class _Untracked(nullcontext):
    """In place of the counter's notes on which module runs: its hooks forbid a gradient penalty's torch.autograd.grad."""

    parents = ("Global",)


def flops(run: Callable[[], object]) -> int:
    """Floating point operations of one call."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Untracked()
    with counter:
        run()
    return counter.get_total_flops()


def learn(model: Any, player: str, batch: Mapping[str, Any]) -> None:
    """A player's gradients, as ``fit`` takes them, and away with them."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in model.players()[player]:
        parameter.requires_grad_(True)
    sum(model.losses(batch, player).values()).backward()
    model.zero_grad()


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> list[dict[str, float]]:
    """Seconds of every run in every round, after one round that is not counted; taking turns, so that all meet the same machine."""

    def timed(name: str) -> float:
        began = perf_counter()
        runs[name]()
        return perf_counter() - began

    return [{name: timed(name) for name in runs} for _ in range(rounds + 1)][1:]
