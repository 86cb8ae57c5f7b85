"""The judge and the measures."""
from facelab.evaluation.judge import Judge, Verdict, judge
from facelab.evaluation.measures import (
    frechet_distance,
    gradient_energy,
    histogram_entropy,
    inception_score,
    inter_ocular,
    landmark_error,
    psnr,
    ssim,
)

__all__ = [
    "Judge", "Verdict", "frechet_distance", "gradient_energy", "histogram_entropy", "inception_score", "inter_ocular", "judge",
    "landmark_error", "psnr", "ssim",
]  # fmt: skip
