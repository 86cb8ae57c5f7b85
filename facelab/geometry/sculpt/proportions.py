"""Proportions of adult heads: means, spreads, and how they go together."""

from __future__ import annotations

import numpy as np

# name: (standard deviation, what +1 means). Lengths in cm, the rest as a fraction of the mean feature.
PROPORTIONS: dict[str, tuple[float, str]] = {
    "face_width": (0.050, "bizygomatic width, fraction (mean 13.7 cm)"),
    "jaw_width": (0.070, "bigonial width, fraction (mean 10.8 cm)"),
    "skull_width": (0.040, "head breadth, fraction (mean 15.2 cm)"),
    "skull_length": (0.040, "head length, fraction (mean 19.3 cm)"),
    "forehead_height": (0.060, "brow to crown, fraction"),
    "forehead_slope": (0.50, "how far the upper forehead lies back, cm"),
    "midface_height": (0.32, "nasion to subnasale, cm (mean 5.0)"),
    "upper_lip_height": (0.22, "subnasale to stomion, cm (mean 2.2)"),
    "chin_height": (0.38, "stomion to gnathion, cm (mean 4.6)"),
    "chin_projection": (0.36, "pogonion forward, cm"),
    "chin_width": (0.25, "fraction"),
    "jaw_angle": (0.55, "gonion down, cm"),
    "eye_distance": (0.20, "half the pupil distance, cm (mean 3.2)"),
    "eye_width": (0.060, "palpebral fissure length, fraction (mean 2.8 cm)"),
    "eye_height": (0.17, "palpebral fissure height, fraction (mean 1.0 cm)"),
    "eye_tilt": (0.09, "outer corner above the inner, cm per cm"),
    "eye_depth": (0.16, "eyes set back, cm"),
    "lid_fold": (0.55, "fullness over the upper lid"),
    "brow_ridge": (0.45, "fraction"),
    "brow_height": (0.24, "cm"),
    "nose_width": (0.130, "al-al, fraction (mean 3.5 cm)"),
    "nose_projection": (0.150, "fraction (mean 2.0 cm)"),
    "nose_bridge": (0.24, "height of the bridge at the nasion, cm"),
    "nose_hump": (0.13, "dorsal hump, cm"),
    "nose_tip_up": (0.28, "tip raised, cm"),
    "nose_tip_width": (0.17, "bulbosity of the tip, fraction"),
    "bridge_width": (0.13, "fraction"),
    "mouth_width": (0.070, "ch-ch, fraction (mean 5.2 cm)"),
    "upper_lip": (0.26, "vermilion height, fraction (mean 0.8 cm)"),
    "lower_lip": (0.22, "vermilion height, fraction (mean 1.0 cm)"),
    "lip_projection": (0.22, "cm"),
    "cupid_bow": (0.45, "fraction"),
    "cheekbones": (0.28, "malar prominence, cm"),
    "cheek_fullness": (0.42, "lower cheek, cm; hollow when negative"),
    "temples": (0.22, "cm; hollow when negative"),
    "neck_width": (0.085, "fraction"),
    "ear_size": (0.075, "fraction (mean 6.2 cm)"),
    "ear_flare": (0.16, "radians"),
    "asymmetry_mouth": (0.06, "mouth shifted to the viewer's right, cm"),
    "asymmetry_eyes": (0.04, "left eye above the right, cm"),
    "asymmetry_nose": (0.07, "tip shifted to the viewer's right, cm"),
}
# Measurements that go together in people: loadings of a few common factors on the proportions' unit deviates.
_SEX = dict(
    jaw_width=0.55,
    brow_ridge=0.7,
    chin_projection=0.3,
    chin_height=0.5,
    nose_projection=0.35,
    face_width=0.35,
    neck_width=0.75,
    upper_lip=-0.3,
    lower_lip=-0.2,
    eye_height=-0.35,
    brow_height=-0.5,
    chin_width=0.5,
    midface_height=0.35,
    nose_width=0.3,
    forehead_slope=0.4,
    cheek_fullness=-0.25,
    jaw_angle=0.35,
    nose_hump=0.3,
    nose_tip_up=-0.35,
    skull_width=0.35,
    skull_length=0.35,
    ear_size=0.3,
    mouth_width=0.25,
)
_NOSE_AND_LIPS = dict(
    nose_width=0.75,
    nose_projection=-0.45,
    nose_bridge=-0.6,
    upper_lip=0.6,
    lower_lip=0.6,
    lip_projection=0.65,
    nose_tip_width=0.45,
    bridge_width=0.35,
)
_FULLNESS = dict(cheek_fullness=0.75, face_width=0.45, jaw_width=0.4, neck_width=0.5, temples=0.5, chin_height=-0.1)
_LENGTH = dict(face_width=-0.4, midface_height=0.55, chin_height=0.5, upper_lip_height=0.5, forehead_height=0.25)
_FACTORS = (_SEX, _NOSE_AND_LIPS, _FULLNESS, _LENGTH)


def random_proportions(generator: np.random.Generator) -> dict[str, float]:
    """One person's proportions: deviates correlated as in people, cut at 2.3 standard deviations; see PROPORTIONS for units."""
    common = generator.standard_normal(len(_FACTORS))
    own = generator.standard_normal(len(PROPORTIONS))
    out = {}
    for (name, (spread, _)), z in zip(PROPORTIONS.items(), own, strict=True):
        loads = np.array([f.get(name, 0.0) for f in _FACTORS])
        rest = max(1 - loads @ loads, 0.2) ** 0.5
        out[name] = spread * float(np.clip(loads @ common + rest * z, -2.3, 2.3))
    return out
