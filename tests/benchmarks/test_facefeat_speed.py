"""FaceFeat-GAN's training step at 64 px on two cores: pictures and arithmetic a second, where the time goes, beside BEGAN's step.

The rival is BEGAN's own (Berthelot et al. 2017): one decoder as G, an autoencoder of the same encoder and decoder as D, the same sides
and widths; its step is G's loss and D's on a batch of real and one of made pictures. FaceFeat-GAN plays a second game and looks at what
it made with E_id, so it has more to do; the question is whether it does as much arithmetic a second.
"""
import os
from functools import partial
from statistics import median

import pytest
import torch
from counting import flops, in_turns, learn
from torch import nn

from facelab.faces import FaceWorld
from facelab.papers import facefeat_gan

BATCH, ROUNDS = 16, 5


class Began(nn.Module):
    def __init__(self, config):
        super().__init__()
        code, levels = 256, config.levels
        self.generator = facefeat_gan.Decoder(code, config.width, levels)
        encoder, decoder = facefeat_gan.Encoder(config.encoder_width, levels, code), facefeat_gan.Decoder(code, config.width, levels)
        self.judge = nn.Sequential(encoder, decoder)

    def step(self, real):
        made = self.generator(torch.rand(len(real), 256) * 2 - 1)
        (made - self.judge(made)).abs().mean().backward()
        both = torch.cat([real, made.detach()])
        (both - self.judge(both)).abs().mean().backward()
        self.zero_grad()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the figures are for two cores")
def test_a_step_does_at_least_half_of_begans_arithmetic_a_second(benchmark):
    faces = FaceWorld(seed=1).sample(2 * BATCH, size=64)
    torch.manual_seed(0)
    model = facefeat_gan.Model().train()
    model.prepare(faces)
    batch, rival = model.draw(faces, BATCH, torch.Generator().manual_seed(0)), Began(model.config)
    owners = model.players()

    for balance in (model.image_balance, *model.feature_balances):
        balance.steps += 1  # nine steps in ten weigh nothing
    runs = {player: partial(learn, model, player, batch) for player in owners}
    runs["BEGAN"] = lambda: rival.step(batch["image"])
    arithmetic = {name: flops(run) for name, run in runs.items()}

    rounds = benchmark.pedantic(in_turns, args=(runs, ROUNDS), rounds=1)
    whole = [sum(seconds[player] for player in owners) for seconds in rounds]
    spent = {player: median(seconds[player] / total for seconds, total in zip(rounds, whole, strict=True)) for player in owners}
    total = sum(arithmetic[player] for player in owners)
    told = {"images/s": BATCH / median(whole), "GFLOP/s": total / median(whole) / 1e9, "GFLOP/image": total / BATCH / 1e9}
    print("a whole step    ", *(f"{number:8.2f} {unit}" for unit, number in told.items()))
    for player, share in spent.items():
        print(f"{player:24} {share:6.1%} of the time, {arithmetic[player] / total:6.1%} of the arithmetic")
    share = median(r["BEGAN"] / t for r, t in zip(rounds, whole, strict=True)) * total / arithmetic["BEGAN"]
    print(f"it does {share:.2f} of BEGAN's arithmetic a second; load average {os.getloadavg()[0]:.1f}")
    benchmark.extra_info.update(told | spent | {"share": share, "load_average": os.getloadavg()[0]})
    assert share >= 0.5
