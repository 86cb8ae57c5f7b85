"""What an experiment leaves behind: its figures, and under which conditions they were measured."""
from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def write_metrics(folder: str | Path, experiment: str, *, profile: str, seed: int, began: float, **figures: Any) -> Path:
    """``metrics.json`` in the folder: experiment, profile, seed, hardware, versions, seconds since ``began`` (``time.time()`` then),
    and the ``figures``, which are plain values, lists or dicts of them. Returns its path."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = {
        "experiment": experiment, "profile": profile, "seed": seed,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {gpu}",
        "versions": {name: version(name) for name in ("facelab", "torch", "numpy", "torchmetrics", "scikit-learn", "scikit-image")},
        "seconds": round(time.time() - began), **figures,
    }  # fmt: skip
    path = Path(folder) / "metrics.json"
    path.write_text(json.dumps(found, indent=1))
    return path
