"""FaceWorld and its rooms: draws, appearance, expressions, light, chart (paint), hair, vertices and shade (compiled), sampling."""

from facelab.faces.world.expressions import EXPRESSIONS
from facelab.faces.world.sampling import FaceWorld

__all__ = ["EXPRESSIONS", "FaceWorld"]
