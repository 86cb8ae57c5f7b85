"""What fit costs over the loop that one would write by hand: same model, same batches, same optimiser."""
import os
import statistics
import time

import pytest
import torch
from lightning_fabric import Fabric

from facelab.faces import FaceWorld
from facelab.papers import af_vae
from facelab.training import fit, generator_of

STEPS, BATCH, ROUNDS = 10, 16, 9
BAR = 1.05  # of the hand-written loop's time


def by_hand(model, faces):
    (own,) = model.players().values()
    adam = torch.optim.Adam(own, lr=1e-3, fused=True)
    model.train()
    for k in range(STEPS):
        batch = model.draw(faces, BATCH, generator_of(0, k))
        terms = model.losses(batch)
        adam.zero_grad()
        sum(terms.values()).backward()
        adam.step()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return FaceWorld(seed=1).cache(128, 64, tmp_path_factory.mktemp("faces") / "cache")


def test_fit_costs_little_more_than_a_bare_loop(benchmark, faces):
    torch.manual_seed(0)
    model = af_vae.Model(af_vae.Config())
    model.prepare(faces, torch.Generator().manual_seed(0))
    fabric = Fabric(accelerator="cpu", devices=1)

    def ours():
        fit(model, faces, steps=STEPS, batch=BATCH, progress=False, fabric=fabric)

    def seconds(loop):
        began = time.perf_counter()
        loop()
        return time.perf_counter() - began

    seconds(ours), seconds(lambda: by_hand(model, faces))
    ratios = []

    def pair():  # interleaved, each first in turn
        loops = {"ours": ours, "theirs": lambda: by_hand(model, faces)}
        order = list(loops) if len(ratios) % 2 else list(loops)[::-1]
        taken = {name: seconds(loops[name]) for name in order}
        ratios.append(taken["ours"] / taken["theirs"])

    benchmark.pedantic(pair, rounds=ROUNDS)
    ratio = statistics.median(ratios)
    benchmark.extra_info.update(ratio=ratio, ratios=ratios, steps=STEPS, batch=BATCH, load_average=os.getloadavg()[0])
    print(f"\nfit / bare loop: {ratio:.3f} (paired median of {ROUNDS}, {min(ratios):.3f} to {max(ratios):.3f})")
    assert ratio <= BAR
