"""What every room may use: the two readings of a disputed formula, the named errors, and where files live."""
from __future__ import annotations

import enum
import os
from pathlib import Path

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "weights"


PROFILES = ("smoke", "cpu", "gpu", "paper")
"""Sizes at which a notebook runs: CI and a first look, a laptop, a GPU, the papers' own."""


class Reading(enum.Enum):
    """How a formula with a known erratum is computed: as the paper prints it, or as it must have been meant."""

    literal = "literal"
    fixed = "fixed"


class FacelabError(Exception):
    """Base of every error that facelab raises on purpose; its message says what is wrong and what to do."""


class ShapeError(FacelabError, ValueError):
    """An array or tensor has the wrong shape, dtype or range."""


class MissingTruthError(FacelabError, AttributeError):
    """A batch was asked for something that its source does not know, such as the 3DMM coefficients of a photograph."""


class LandmarkError(FacelabError):
    """No usable face or landmarks in a picture."""


class PictureError(FacelabError):
    """A picture or video that cannot be read, or is too large to be read safely."""


class AssetError(FacelabError, FileNotFoundError):
    """A file (weights, model, prepared folder) is missing, truncated or of another format."""


def cache_folder() -> Path:
    """Where facelab keeps what it made or downloaded: ``$FACELAB_CACHE``, else ``$XDG_CACHE_HOME/facelab``, else ``~/.cache/facelab``."""
    home = os.environ.get("FACELAB_CACHE")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facelab"


def assets_folder() -> Path:
    """Real inputs for tests and experiments: ``$FACELAB_ASSETS``, else ``../shared/assets`` beside the repository."""
    return Path(os.environ.get("FACELAB_ASSETS") or PACKAGE.parent.parent / "shared" / "assets")
