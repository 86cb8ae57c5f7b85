"""Draws docs/faces.jpg, the front page's picture: the first 24 people of a world, none picked out."""
from pathlib import Path

import numpy as np
from PIL import Image

from facelab.faces import FaceWorld

faces = FaceWorld(seed=8).sample(24, size=160, yaw=(-45, 45), expressions=["neutral", "smile", "surprise", "squint", "anger"])
tiles = ((faces.image.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
rows = [np.concatenate(tiles[i : i + 8], axis=1) for i in range(0, 24, 8)]
Image.fromarray(np.concatenate(rows)).save(Path(__file__).with_suffix(".jpg"), quality=88)
