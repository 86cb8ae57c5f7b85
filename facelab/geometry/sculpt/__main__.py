"""Writes ``facelab/weights/head.safetensors``: ``python -m facelab.geometry.sculpt``."""

from facelab.core import WEIGHTS
from facelab.geometry.sculpt import build

WEIGHTS.mkdir(exist_ok=True)
model = build()
model.save(WEIGHTS / "head.safetensors")
print(f"{len(model.mean)} vertices, {len(model.identity_basis)} identity and {len(model.expression_names)} expression directions")
