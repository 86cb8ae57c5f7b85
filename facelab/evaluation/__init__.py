"""The judge, the measures, the networks that sets are compared by, and what raters said."""
from facelab.evaluation.features import DlibIdentity, Extractor, face_features, inception, mobilenet_v2
from facelab.evaluation.judge import Judge, Levels, Verdict, judge
from facelab.evaluation.measures import (
    InceptionScore,
    Probe,
    diversity,
    frechet,
    frechet_distance,
    gradient_energy,
    histogram_entropy,
    inception_score,
    inter_ocular,
    landmark_error,
    linear_probe,
    mae,
    mse,
    psnr,
    ssim,
)
from facelab.evaluation.motion import (
    activation_agreement,
    averages,
    identity_similarity,
    landmark_mae,
    paired_difference,
    pose_rmse,
    reenactment,
)
from facelab.evaluation.ratings import RatingError, contests, fool_rate, trueskill, vote_shares, wilson
from facelab.evaluation.records import write_metrics
from facelab.evaluation.verification import (
    Verification,
    feature_variance,
    identification,
    own_and_nearest_other,
    pairs_in_folds,
    real_or_made,
    templates,
    true_accept_rate,
    verification_accuracy,
)

__all__ = [
    "DlibIdentity", "Extractor", "InceptionScore", "Judge", "Levels", "Probe", "RatingError", "Verdict", "Verification",
    "activation_agreement", "averages", "contests", "diversity", "face_features", "feature_variance", "fool_rate", "frechet",
    "frechet_distance", "gradient_energy", "histogram_entropy", "identification", "identity_similarity", "inception", "inception_score",
    "inter_ocular", "judge", "landmark_error", "landmark_mae", "linear_probe", "mae", "mobilenet_v2", "mse", "own_and_nearest_other",
    "paired_difference", "pairs_in_folds", "pose_rmse", "psnr", "real_or_made", "reenactment", "ssim", "templates", "true_accept_rate",
    "trueskill", "verification_accuracy", "vote_shares", "wilson", "write_metrics",
]  # fmt: skip
