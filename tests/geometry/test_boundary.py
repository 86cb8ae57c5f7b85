"""Boundary curves and maps against scipy's splines, the papers' own recipe, and exact shifts."""
import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt

from facelab.core import ShapeError, assets_folder
from facelab.geometry.boundary import CURVES, STRUCTURES, boundary_curves, boundary_map


@pytest.fixture(scope="module")
def landmarks():
    """A plain analytic face in a 64-pixel frame, and three shaken copies: (4, 68, 2)."""
    jaw = [(32 - 16 * np.cos(a), 26 + 24 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
    brows = [(x, 21 - 2 * np.sin((x - x0) / 10 * np.pi)) for x0 in (19, 35) for x in np.linspace(x0, x0 + 10, 5)]
    nose = [(32, y) for y in np.linspace(27, 35, 4)] + [(x, 37 + 0.5 * np.cos((x - 32) / 2)) for x in np.linspace(28, 36, 5)]
    eyes = [(x + dx, 27 + dy) for x in (25, 39) for dx, dy in ((-3.5, 0), (-1, -1.5), (1, -1.5), (3.5, 0), (1, 1.2), (-1, 1.2))]
    angle = np.linspace(-np.pi, np.pi, 13)[:12]
    outer = [(32 + 6 * np.cos(a), 42 + 2.5 * np.sin(a)) for a in angle]
    angle = np.linspace(-np.pi, np.pi, 9)[:8]
    inner = [(32 + 5 * np.cos(a), 42 + 0.8 * np.sin(a)) for a in angle]
    face = np.array([*jaw, *brows, *nose, *eyes, *outer, *inner])
    shake = np.random.default_rng(0).normal(0, 0.4, (3, 68, 2))
    return torch.tensor(np.concatenate([face[None], face + shake]), dtype=torch.float32)


def test_curves_are_scipys_natural_splines_at_even_arc_length(landmarks):
    curves = boundary_curves(landmarks, samples=50)
    assert list(curves) == list(CURVES) and len(curves) == 13
    for name, index in CURVES.items():
        assert curves[name].shape == (4, 50, 2)
        for points, found in zip(landmarks[:, list(index)].double().numpy(), curves[name].numpy(), strict=True):
            knots = np.concatenate([[0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
            spline = CubicSpline(knots, points, bc_type="natural")
            fine = np.linspace(0, knots[-1], 20_001)
            walked = np.concatenate([[0], np.linalg.norm(np.diff(spline(fine), axis=0), axis=1).cumsum()])
            want = spline(np.interp(np.linspace(0, walked[-1], 50), walked, fine))
            np.testing.assert_allclose(found, want, atol=2e-3, err_msg=name)


def test_every_landmark_lies_on_a_line(landmarks):
    assert sorted(set(sum(CURVES.values(), ()))) == list(range(68))
    value = boundary_map(landmarks.round(), 64)[:, 0]
    x, y = landmarks.round().long().unbind(-1)
    assert (value[torch.arange(4)[:, None], y, x] > 0.98).all()  # a chord of the polyline may cut a bend by a hair


def test_one_line_has_the_closed_form_of_a_gaussian(landmarks):
    face = landmarks[:1].clone()
    face[:] = torch.tensor([500.0, 500.0])  # everything far off the picture …
    face[0, 27:31] = torch.stack([torch.full((4,), 20.25), torch.tensor([-30.0, 10.0, 50.0, 95.0])], dim=1)  # … but the nose: x = 20.25
    distance = (torch.arange(64) - 20.25).abs()
    want = torch.where(distance < 6, torch.exp(-(distance**2) / 8), 0.0)
    torch.testing.assert_close(boundary_map(face, 64, sigma=2.0)[0, 0], want.expand(64, 64), atol=1e-5, rtol=0)


def test_agrees_with_the_recipe_of_a_drawn_line_to_its_own_half_pixel(landmarks):
    """LAB draws a binary line one pixel wide and takes its distance transform; that line is off by up to 0.71 px."""
    empty = np.ones((4, 64, 64), bool)
    for lines in boundary_curves(landmarks, 400).values():
        x, y = lines.round().long().clamp(0, 63).unbind(-1)
        empty[np.arange(4)[:, None], y, x] = False
    drawn = np.stack([distance_transform_edt(e) for e in empty])
    ours = boundary_map(landmarks, 64, sigma=4.0)[:, 0].double().numpy()
    near = ours > 0
    distance = np.sqrt(-2 * 16 * np.log(ours[near]))
    assert np.abs(distance - drawn[near]).max() < 0.5**0.5 + 0.05
    assert np.abs(distance - drawn[near]).mean() < 0.3


def test_range_cut_and_shape(landmarks):
    value = boundary_map(landmarks, 64, sigma=1.0)
    assert value.shape == (4, 1, 64, 64) and value.dtype == torch.float32
    assert value.min() == 0 and 0.99 < value.max() <= 1
    assert value[value > 0].min() >= np.exp(-4.5) - 1e-6
    assert boundary_map(landmarks, (48, 80)).shape == (4, 1, 48, 80)
    assert boundary_map(landmarks[:0], 64).shape == (0, 1, 64, 64)


def test_moving_the_face_one_pixel_moves_the_map_one_pixel(landmarks):
    still = boundary_map(landmarks, 64)
    moved = boundary_map(landmarks + torch.tensor([1.0, -2.0]), 64)
    torch.testing.assert_close(moved[:, :, :-2, 1:], still[:, :, 2:, :-1], atol=2e-5, rtol=0)
    assert (boundary_map(landmarks + 0.1, 64) - still).abs().max() > 0.01  # a tenth of a pixel shows


def test_one_face_or_many_numpy_or_torch_give_the_same(landmarks):
    together = boundary_map(landmarks, 64)
    for i in range(4):
        assert torch.equal(boundary_map(landmarks[i], 64)[0], together[i])
        assert torch.equal(boundary_map(landmarks[i].double().numpy(), 64)[0], together[i])


def test_mirrored_face_gives_the_mirrored_map(landmarks):
    mirrored = landmarks * torch.tensor([-1.0, 1.0]) + torch.tensor([63.0, 0.0])
    order = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    order += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    torch.testing.assert_close(boundary_map(mirrored[:, order], 64), boundary_map(landmarks, 64).flip(-1), atol=2e-3, rtol=0)


def test_off_the_picture_and_coincident_points_are_fine(landmarks):
    assert boundary_map(landmarks + 500, 64).abs().max() == 0
    assert torch.isfinite(boundary_map(landmarks * 1e9, 64)).all()
    shut = landmarks.clone()
    shut[:, 42:48] = shut[:, 42:43]  # an eye seen edge-on: a dot
    shut[:, 20] = shut[:, 19]
    value = boundary_map(shut, 64)
    assert torch.isfinite(value).all() and value.max() <= 1
    x, y = shut[0, 42].round().long()
    assert value[0, 0, y, x] > 0.7


@pytest.mark.parametrize("count", STRUCTURES)
def test_every_structure_uses_all_its_landmarks_and_its_lines_pass_through_them(count):
    points = torch.from_numpy(np.random.default_rng(count).uniform(5, 58, (3, count, 2)).round())
    assert sorted(set(sum(STRUCTURES[count].values(), ()))) == list(range(count))
    curves = boundary_curves(points, samples=400)
    assert list(curves) == list(STRUCTURES[count])
    for name, index in STRUCTURES[count].items():
        torch.testing.assert_close(curves[name][:, [0, -1]], points[:, [index[0], index[-1]]].float())
    x, y = points.long().unbind(-1)
    assert (boundary_map(points, 64, samples=4000)[torch.arange(3)[:, None], 0, y, x] > 0.99).all()


def test_two_landmarks_make_a_straight_line_evenly_sampled():
    points = torch.from_numpy(np.random.default_rng(1).uniform(0, 63, (2, 21, 2)))
    part = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    for name, (a, b) in STRUCTURES[21].items():
        want = points[:, a, None] * (1 - part) + points[:, b, None] * part
        torch.testing.assert_close(boundary_curves(points, 11)[name], want.float(), atol=1e-4, rtol=0)


def test_a_hands_map_is_the_distance_to_its_twenty_bones():
    points = np.random.default_rng(2).uniform(4, 59, (21, 2))
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([x, y], -1).astype(float)
    squared = np.full((64, 64), np.inf)
    for finger in range(5):
        chain = points[[0, *range(4 * finger + 1, 4 * finger + 5)]]
        for a, b in zip(chain[:-1], chain[1:], strict=True):
            along = np.clip((pixels - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            squared = np.minimum(squared, ((pixels - a - along[..., None] * (b - a)) ** 2).sum(-1))
    want = np.where(squared < 9, np.exp(-squared / 2), 0)
    np.testing.assert_allclose(boundary_map(points, 64)[0, 0].numpy(), want, atol=2e-4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:, :67], r"\(N, 68, 2\), \(N, 21, 2\), \(N, 9, 2\)"),
        (lambda x: x[..., :1], r"\(N, 68, 2\)"),
        (lambda x: x[0, 0], r"\(N, 68, 2\)"),
        (lambda x: x.index_fill(0, torch.tensor([2]), float("nan")), r"face \[2\].*not finite"),
        (lambda x: x * 0 + 7, "one point"),
    ],
)
def test_bad_landmarks_are_named(landmarks, spoil, message):
    with pytest.raises(ShapeError, match=message):
        boundary_map(spoil(landmarks), 64)


@pytest.mark.parametrize(
    "arguments", [{"size": 0}, {"size": 64, "sigma": 0.0}, {"size": 64, "sigma": float("nan")}, {"size": 64, "samples": 1}]
)
def test_bad_settings_are_named(landmarks, arguments):
    with pytest.raises(ShapeError):
        boundary_map(landmarks, **arguments)


def test_real_landmarks_draw_thirteen_lines():
    file = assets_folder() / "london_set" / "machine_landmarks68_512.npz"
    if not file.exists():
        pytest.skip(f"{file} is absent")
    landmarks = torch.from_numpy(np.load(file)["landmarks68_neutral"]) / 4
    value = boundary_map(landmarks, 128)
    assert value.shape == (68, 1, 128, 128) and (value.amax((1, 2, 3)) > 0.99).all()
    nose = landmarks[:, 33].round().long()
    assert (value[torch.arange(68), 0, nose[:, 1], nose[:, 0]] > 0.8).all()
