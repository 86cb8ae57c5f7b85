"""What fit costs over the loop that one would write by hand: same model, same batches, same optimiser, step beside step."""
import os
import statistics
from copy import deepcopy
from time import perf_counter

import torch
from lightning_fabric import Fabric

from facelab.faces import FaceWorld
from facelab.papers import af_vae
from facelab.training import fit, generator_of

STEPS, BATCH = 80, 16
BAR = 1.05  # of the hand-written loop's time


def test_fit_costs_little_more_than_a_bare_loop(benchmark, tmp_path):
    faces = FaceWorld(seed=1).cache(128, 64, tmp_path / "faces")
    torch.manual_seed(0)
    model = af_vae.Model()
    model.prepare(faces, torch.Generator().manual_seed(0))
    twin = deepcopy(model).train()
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3, fused=True)
    ours, theirs, begun = [], [], []

    def by_hand(k):
        began = perf_counter()
        batch = twin.draw(faces, BATCH, generator_of(0, k))
        adam.zero_grad()
        sum(twin.losses(batch).values()).backward()
        adam.step()
        theirs.append(perf_counter() - began)

    def draw(faces, n, generator, real=model.draw):
        """Where fit begins a step: its last one is over, and the other loop takes the same before it goes on."""
        if begun:
            ours.append(perf_counter() - begun[-1])
            by_hand(len(theirs))
        begun.append(perf_counter())
        return real(faces, n, generator)

    model.draw = draw
    given = {"steps": STEPS, "batch": BATCH, "log_every": 10, "progress": False, "fabric": Fabric(accelerator="cpu", devices=1)}
    benchmark.pedantic(lambda: fit(model, faces, **given), rounds=1)
    by_hand(STEPS - 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)), "the same arithmetic"

    ratios = [a / b for a, b in zip(ours[3:], theirs[3:-1], strict=True)]  # once both are warm
    ratio, rate = statistics.median(ratios), BATCH / statistics.median(ours)
    benchmark.extra_info.update(ratio=ratio, images_per_second=rate, load_average=os.getloadavg()[0])
    print(f"\nfit / bare loop: {ratio:.3f} (paired median of {len(ratios)} steps), {rate:.0f} images/s, load {os.getloadavg()[0]:.1f}")
    assert ratio <= BAR
