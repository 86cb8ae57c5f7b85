"""What a face is in space: the morphable model, its drawing, its motion, its boundary map."""
from facelab.geometry.boundary import boundary_curves, boundary_map
from facelab.geometry.flow import facial_flow, flow_coherence, landmark_flow, optical_flow, sample_at, upsample_flow, warp
from facelab.geometry.morphable import MorphableModel
from facelab.geometry.raster import rasterize

__all__ = [
    "MorphableModel", "boundary_curves", "boundary_map", "facial_flow", "flow_coherence", "landmark_flow", "optical_flow", "rasterize",
    "sample_at", "upsample_flow", "warp",
]  # fmt: skip
