"""Flow coherence (Eq. 6 of FVAE), forward and backward, against the unfold formulation: time, interleaved here; peak memory, each in a
process of its own."""
import statistics
import subprocess
import sys
import time

import pytest
import torch
from torch.nn import functional as F

from facelab.geometry import flow_coherence

N, SIDE, ALPHA, WINDOW = 16, 128, 10.0, 7


def unfolded(displacement, guide):
    """Every neighbour of every pixel laid side by side."""
    n, _, height, width = displacement.shape

    def beside(x, padding):
        x = F.pad(x, [WINDOW // 2] * 4, value=padding)
        return F.unfold(x, WINDOW).view(n, -1, WINDOW**2, height, width)

    place = torch.arange(WINDOW) - WINDOW // 2
    near = -(place[:, None].square() + place.square()).flatten().view(1, -1, 1, 1).float()
    inside = beside(torch.ones(n, 1, height, width), 0.0)[:, 0]
    colour = (beside(guide, 0.0) - guide[:, :, None]).square().sum(dim=1)
    apart = (beside(displacement, 0.0) - displacement[:, :, None]).square().sum(dim=1)
    return (apart * inside * (near - ALPHA * colour).exp()).sum() / n


def ours(displacement, guide):
    return flow_coherence(displacement, guide, ALPHA, WINDOW)


def given():
    g = torch.Generator().manual_seed(0)
    return torch.randn(N, 2, SIDE, SIDE, generator=g).requires_grad_(), torch.rand(N, 3, SIDE, SIDE, generator=g) * 2 - 1


def seconds(act, displacement, guide):
    began = time.perf_counter()
    act(displacement, guide).backward()
    displacement.grad = None
    return time.perf_counter() - began


def test_coherence_is_at_least_six_times_as_fast_as_unfold(benchmark):
    displacement, guide = given()
    torch.testing.assert_close(ours(displacement, guide), unfolded(displacement, guide), rtol=1e-4, atol=0)
    rounds = [(seconds(ours, displacement, guide), seconds(unfolded, displacement, guide)) for _ in range(7)][1:]
    benchmark.extra_info["times as fast as unfold"] = ratio = statistics.median(b / a for a, b in rounds)
    benchmark(seconds, ours, displacement, guide)
    assert ratio >= 6, ratio


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_coherence_takes_a_tenth_of_unfolds_memory(benchmark):
    peak = {name: int(subprocess.check_output([sys.executable, __file__, name])) for name in ("ours", "unfolded")}
    benchmark.extra_info["MiB above the inputs"] = {name: value / 2**20 for name, value in peak.items()}
    benchmark(lambda: None)
    assert 0 < peak["ours"] <= peak["unfolded"] / 10, peak


if __name__ == "__main__":
    from pathlib import Path

    def now() -> int:
        """Largest memory so far, bytes; getrusage's would include that of the process that started this one."""
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

    pair = given()
    ours(*(x[:1, :, :16, :16].detach() for x in pair))  # what the first call loads
    before = now()
    {"ours": ours, "unfolded": unfolded}[sys.argv[1]](*pair).backward()
    print(now() - before)
