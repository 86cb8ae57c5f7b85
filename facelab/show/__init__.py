"""What the notebooks show: pictures that stand still and widgets that move; display only, the methods are derived in the notebooks."""
from facelab.show.film import film, save_picture
from facelab.show.pictures import begin, clay, flow_colours, histograms, house, overlay, projection, sheet, tint, to_pixels
from facelab.show.widgets import (
    Animator,
    ClusterExplorer,
    ExpressionEditor,
    GameStepper,
    HistogramExplorer,
    LatentExplorer,
    LiveCurves,
    NoiseExplorer,
    PhotoUpload,
    PriorExplorer,
    Puppet,
    Quiz,
    Vote,
)

__all__ = [
    "Animator", "ClusterExplorer", "ExpressionEditor", "GameStepper", "HistogramExplorer", "LatentExplorer", "LiveCurves",
    "NoiseExplorer", "PhotoUpload", "PriorExplorer", "Puppet", "Quiz", "Vote", "begin", "clay", "film", "flow_colours", "histograms",
    "house", "overlay", "projection", "save_picture", "sheet", "tint", "to_pixels",
]  # fmt: skip
