"""Widgets that draw into ``ipywidgets.Image``; each has ``draw``, which gives the same picture as pixels: its static twin."""
from facelab.show.widgets.animator import Animator
from facelab.show.widgets.clusters import ClusterExplorer
from facelab.show.widgets.curves import LiveCurves
from facelab.show.widgets.expression import ExpressionEditor
from facelab.show.widgets.game import GameStepper
from facelab.show.widgets.latent import LatentExplorer
from facelab.show.widgets.levels import HistogramExplorer
from facelab.show.widgets.noise import NoiseExplorer
from facelab.show.widgets.priors import PriorExplorer
from facelab.show.widgets.puppet import Puppet
from facelab.show.widgets.quiz import Quiz, Vote
from facelab.show.widgets.upload import PhotoUpload

__all__ = [
    "Animator", "ClusterExplorer", "ExpressionEditor", "GameStepper", "HistogramExplorer", "LatentExplorer", "LiveCurves",
    "NoiseExplorer", "PhotoUpload", "PriorExplorer", "Puppet", "Quiz", "Vote",
]  # fmt: skip
