"""Where faces come from: made by FaceWorld, or found in photographs; either way they arrive as a FaceBatch. Hands likewise."""
from facelab.faces.batch import EXPRESSIONS, FaceBatch
from facelab.faces.hands import HandWorld
from facelab.faces.photos import Photos
from facelab.faces.world import FaceWorld

__all__ = ["EXPRESSIONS", "FaceBatch", "FaceWorld", "HandWorld", "Photos"]
