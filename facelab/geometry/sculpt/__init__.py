r"""Sculpts heads: analytic surfaces from measured proportions, one vertex of all heads being one point of the face.

A head is drawn in three steps. (1) The **loft**: horizontal rings from crown to shoulders, each a superellipse whose
width, depth and height are splines along the head. (2) **Features** are smooth bumps and grooves on the loft: brow,
sockets and lids, nose, lips, cheeks, chin. They are written in the coordinates of the *mean* loft, so a wider nose is
the same vertices moved, and registration is exact by construction. (3) **Proportions** (below) stretch regions and
scale features. ``scan(proportions)`` is therefore what a registered 3D scan is, and principal component analysis of
many gives the identity directions of ``MorphableModel.default()``; expressions are displacements of the mean head.

Means and spreads of the proportions follow adult facial anthropometry (Farkas, *Anthropometry of the Head and Face*,
1994; Farkas et al., J. Craniofacial Surgery 16(4), 2005), widened to span the groups that those tables list.
Lengths are centimetres; +x to the viewer's right, +y up, +z to the viewer; the eyes lie at y = 0.
"""

from __future__ import annotations

import numpy as np
import torch

from facelab.geometry.morphable import MorphableModel
from facelab.geometry.sculpt.expressions import expressions
from facelab.geometry.sculpt.head import head_mesh, scan
from facelab.geometry.sculpt.proportions import PROPORTIONS, random_proportions

__all__ = ["PROPORTIONS", "build", "expressions", "random_proportions", "scan"]


def build(people: int = 400, components: int = 40, seed: int = 0) -> MorphableModel:
    """``MorphableModel.default()`` from scratch: sculpts ``people`` heads and analyses them; about ten seconds on two cores."""
    rng = np.random.default_rng(seed)
    mesh = head_mesh()
    scans = torch.from_numpy(np.stack([scan(random_proportions(rng)) for _ in range(people)]))
    return MorphableModel.from_scans(
        scans,
        torch.from_numpy(mesh.triangles.astype(np.int32)),
        torch.from_numpy(mesh.landmarks),
        components,
        expressions={name: torch.from_numpy(d) for name, d in expressions().items()},
        parts=torch.from_numpy(mesh.parts),
    )
