"""Draws docs/animation.gif: three people, none picked out, follow the clip of a fourth, each from one photograph (beside the driver)."""
from pathlib import Path

import numpy as np
import torch

import facelab
from facelab.faces import FaceWorld
from facelab.show import film, to_pixels

world, model = FaceWorld(0), facelab.load("f3a_gan")
size = model.config.size
driver = world.clip(person=50, frames=90, size=size)[torch.arange(0, 90, 2)]
people = world.sample(3, size=size, start=200, expressions="neutral", yaw=(-3, 3), pitch=(-3, 3), roll=(-2, 2))
made = [to_pixels(model.reenact(people[[k]], driver)) for k in range(len(people))]
film(np.concatenate([to_pixels(driver.image), *made], axis=2), Path(__file__).parent / "animation.gif", rate=12.5)
