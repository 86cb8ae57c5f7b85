"""facelab: a course and a laboratory on face manipulation.

Data flows one way; a room imports only from rooms to its left::

    core, geometry -> faces -> probability -> blocks, adversarial -> papers -> training -> evaluation -> recipes
        -> show -> course -> notebooks

``core``         the readings of a disputed formula, the named errors, where files live
``geometry``     what a face is in space: morphable model, rasteriser, flow, boundary maps
``faces``        where faces come from: made (``FaceWorld``) or photographed (``Photos``), always a ``FaceBatch``
``blocks``, ``probability``, ``adversarial``   what two or more papers share
``papers``       one readable room each: equilibrium_cvae, af_vae, fvae, facefeat_gan, f3a_gan
``training``     ``fit``: one resumable loop over a model's players
``evaluation``   the judges and the measures
``recipes``      how every shipped weight file was trained
``show``         pictures and widgets
``course``       running the notebooks, the book, student copies; ``cli`` is its command line

Rooms arrive with the notebook that derives them; ``facelab doctor`` says what is here.
"""
from __future__ import annotations

from typing import Any

from facelab.core import AssetError

__version__ = "0.1.0"

TRAINED = ("equilibrium_cvae", "af_vae", "fvae", "facefeat_gan", "f3a_gan")  # the rooms of facelab.papers whose weights are shipped


def load(room: str) -> Any:
    """Trained weights of a paper's room, ready to use: its ``Model`` on the CPU, in evaluation mode.

    How each was trained, and how well it does, is in ``facelab/weights/README.md``.

    Raises:
        AssetError: no weights are shipped for this room (the message names those that exist), or the file is damaged.
    """
    if room not in TRAINED:
        raise AssetError(f"no trained weights for {room!r}; trained rooms in facelab {__version__}: {', '.join(TRAINED)}")
    from importlib import import_module

    from facelab.blocks import load_weights, shipped

    paper = import_module(f"facelab.papers.{room}")
    return load_weights(paper.Model, paper.Config, shipped(room))
