"""Counting arithmetic, for the benchmarks."""
from collections.abc import Callable
from contextlib import nullcontext

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
