"""FaceWorld: pure functions of a number, truth that matches the picture, exact flow, and a cache that survives being killed."""
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest
import torch

from facelab.core import AssetError, MissingTruthError, ShapeError, assets_folder
from facelab.faces import EXPRESSIONS, FaceBatch, FaceWorld
from facelab.faces.world.cache import FaceCache
from facelab.geometry import MorphableModel, warp
from facelab.geometry.pose import PIVOT

GREY = 1 / 127.5 + 1e-6
WORLD = FaceWorld(seed=5)
TEN = WORLD.sample(10, size=64)


def psnr(a, b, where):
    error = ((a - b) / 2).square() * where
    return -10 * (error.sum() / (3 * where.sum())).log10().item()


def same(a, b):
    return all(torch.equal(x, y) for (_, x), (_, y) in zip(a._known(), b._known(), strict=True))


# ---------------------------------------------------------------------------------------------------- determinism


def test_the_same_call_gives_the_same_bits():
    again = FaceWorld(seed=5).sample(10, size=64)
    assert same(TEN, again)
    assert not torch.equal(FaceWorld(seed=6).sample(10, size=64).image, TEN.image)


def test_a_face_does_not_depend_on_its_company():
    for start, count in ((0, 1), (3, 4), (9, 1)):
        part = WORLD.sample(count, size=64, start=start)
        whole = TEN[start : start + count]
        assert (part.image - whole.image).abs().max() <= GREY
        assert torch.equal(part.pose, whole.pose) and torch.equal(part.appearance, whole.appearance)
        assert torch.allclose(part.landmarks, whole.landmarks, atol=1e-4)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread allowed here")
def test_threads_change_nothing():
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = WORLD.sample(10, size=64)
    finally:
        numba.set_num_threads(before)
    assert same(one, TEN)


def _worker(start):
    return FaceWorld(seed=5).sample(2, size=64, start=start).image.numpy()


def test_workers_in_other_processes_draw_the_same_faces():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(_worker, [0, 2])
    assert np.abs(np.concatenate(parts) - TEN.image[:4].numpy()).max() <= GREY


# ---------------------------------------------------------------------------------------------------- what is asked for


def test_people_expressions_and_angles_are_what_was_asked():
    few = WORLD.sample(40, size=16, people=3, expressions=["smile", "fear"], yaw=(-90, -80), pitch=(5, 6), roll=(-3, -2))
    assert set(few.identity.tolist()) == {0, 1, 2}
    assert {EXPRESSIONS[i] for i in few.expression.tolist()} == {"smile", "fear"}
    low, high = few.pose.rad2deg().min(0).values, few.pose.rad2deg().max(0).values
    assert (low >= torch.tensor([-90, 5, -3.0]) - 1e-4).all() and (high <= torch.tensor([-80, 6, -2.0]) + 1e-4).all()
    for person in range(3):
        own = few[few.identity == person]
        assert (own.appearance == own.appearance[:1]).all() and (own.identity_coefficients == own.identity_coefficients[:1]).all()
        assert own.light.unique(dim=0).shape[0] == len(own), "each shot has its own light"
    assert WORLD.sample(4, size=16, start=7).identity.tolist() == [7, 8, 9, 10]


def test_a_sitting_is_one_person_in_one_light_showing_the_expressions_in_turn():
    moods = ["neutral", "smile", "surprise"]
    two = WORLD.sample(6, size=32, expressions=moods, sitting=3, yaw=(-8, 8))
    assert two.identity.tolist() == [0, 0, 0, 1, 1, 1]
    assert [EXPRESSIONS[e] for e in two.expression] == moods * 2
    for name in ("identity_coefficients", "appearance", "light", "background", "camera"):
        first, second = getattr(two, name).split(3)
        assert (first == first[:1]).all() and (second == second[:1]).all() and not torch.equal(first[0], second[0]), name
    sway = (two.pose.view(2, 3, 3) - two.pose.view(2, 3, 3).mean(1, keepdim=True)).abs().rad2deg()
    assert 0.1 < sway.max() < 1 and sway.mean() > 0.05, "nobody holds quite still"
    assert not torch.equal(two.expression_coefficients[0], two.expression_coefficients[3]), "every shot has its own strength"
    late = WORLD.sample(2, size=32, start=4, expressions=moods, sitting=3, yaw=(-8, 8))
    assert torch.equal(late.pose, two.pose[4:]) and (late.image - two.image[4:]).abs().max() <= GREY, "wherever one starts"
    some = WORLD.sample(40, size=16, people=5, expressions=moods, sitting=2)
    assert (some.identity.view(20, 2) == some.identity.view(20, 2)[:, :1]).all() and set(some.identity.tolist()) == set(range(5))


def test_a_sitting_that_is_not_still_moves_and_keeps_its_light():
    clips = WORLD.sample(48, size=16, sitting=6, still=False, yaw=(-45, 45))
    own = clips.identity.view(8, 6)
    assert (own == own[:, :1]).all()
    for name in ("identity_coefficients", "appearance", "light", "background", "camera"):
        value = getattr(clips, name).unflatten(0, (8, 6))
        assert (value == value[:, :1]).all(), name
    assert clips.pose[:, 0].view(8, 6).std(dim=1).rad2deg().min() > 8 and clips.expression.unique().shape[0] >= 8
    late = WORLD.sample(2, size=16, start=4, sitting=6, still=False, yaw=(-45, 45))
    assert torch.equal(late.pose, clips.pose[4:6]), "wherever one starts"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_is_another_face(expression):
    shot = WORLD.sample(3, size=16, expressions=expression)
    assert shot.expression.tolist() == [EXPRESSIONS.index(expression)] * 3
    strength = shot.expression_coefficients.abs().sum(1)
    neutral = WORLD.sample(3, size=16, expressions="neutral").expression_coefficients.abs().sum(1)
    assert (strength > neutral).all() or expression == "neutral"


def test_positive_yaw_turns_the_face_to_the_right_of_the_picture_and_pitch_up():
    head = WORLD.sample(1, size=64, yaw=(0, 0), pitch=(0, 0), roll=(0, 0))
    nose, eyes = head.landmarks[0, 30], head.landmarks[0, 36:48].mean(0)
    turn = lambda *pose: WORLD.rerender(head, pose=torch.tensor([pose])).landmarks[0]  # noqa: E731
    right, up, clockwise = turn(0.5, 0.0, 0.0), turn(0.0, 0.3, 0.0), turn(0.0, 0.0, 0.3)
    assert right[30, 0] - right[36:48].mean(0)[0] > nose[0] - eyes[0] + 2
    assert up[30, 1] - up[36:48].mean(0)[1] < nose[1] - eyes[1] - 1
    assert clockwise[45, 1] > clockwise[36, 1] + 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"n": -1}, "negative"),
        ({"n": 1, "people": 0}, "people"),
        ({"n": 1, "yaw": (-120, 0)}, "yaw"),
        ({"n": 1, "yaw": (10, -10)}, "yaw"),
        ({"n": 1, "expressions": "smirk"}, "smirk"),
        ({"n": 1, "size": 4}, "size"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ShapeError, match=message):
        WORLD.sample(**arguments)


# ---------------------------------------------------------------------------------------------------- truth


def test_every_field_is_known_and_in_range():
    assert len(TEN._known()) == len(FaceBatch.__dataclass_fields__)
    assert TEN.image.dtype == torch.float32 and TEN.image.min() >= -1 and TEN.image.max() <= 1
    assert set(TEN.face_mask.unique().tolist()) == {0.0, 1.0}
    share = TEN.face_mask.mean((1, 2, 3))
    assert (share > 0.06).all() and (share < 0.6).all()
    inner = WORLD.sample(6, size=64, yaw=(-20, 20))
    column, row = inner.landmarks[:, 30].round().long().T
    assert (inner.face_mask[torch.arange(6), 0, row, column] == 1).all(), "the tip of the nose is face"


def test_landmarks_are_the_projected_vertices():
    """x = scale R (X - c) + t, y down; R = R_roll R_pitch R_yaw with pitch up and roll clockwise positive (FaceBatch, FaceWorld)."""
    yaw, pitch, roll = TEN.pose.double().T
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    rows = lambda *r: torch.stack([torch.stack(q, -1) for q in r], -2)  # noqa: E731
    about_y = rows((yaw.cos(), zero, yaw.sin()), (zero, one, zero), (-yaw.sin(), zero, yaw.cos()))
    about_x = rows((one, zero, zero), (zero, pitch.cos(), pitch.sin()), (zero, -pitch.sin(), pitch.cos()))
    about_z = rows((roll.cos(), roll.sin(), zero), (-roll.sin(), roll.cos(), zero), (zero, zero, one))
    turned = (TEN.landmarks_3d.double() - torch.tensor(PIVOT).double()) @ (about_z @ about_x @ about_y).mT
    scale, x, y = (TEN.camera.double() * 64).T
    projected = torch.stack([x[:, None] + scale[:, None] * turned[..., 0], y[:, None] - scale[:, None] * turned[..., 1]], -1) - 0.5
    assert (projected - TEN.landmarks).abs().max() < 0.01
    shape = WORLD.model.shape(TEN.identity_coefficients, TEN.expression_coefficients)[:, WORLD.model.landmarks]
    assert torch.allclose(shape, TEN.landmarks_3d, atol=2e-3)


def test_landmarks_lie_where_the_picture_shows_them():
    """At 256 px, paint one landmark's neighbourhood by moving it: opening the lids changes the picture at the lids' landmarks."""
    head = WORLD.sample(4, size=128, expressions="neutral", yaw=(-15, 15), start=40)
    blink = head.expression_coefficients.clone()
    names = WORLD.model.expression_names
    blink[:, names.index("blink_left")] = 1
    changed = (WORLD.rerender(head, expression_coefficients=blink).image - head.image).abs().mean(1)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    centre = torch.stack([(changed * x).sum((1, 2)), (changed * y).sum((1, 2))], 1) / changed.sum((1, 2))[:, None]
    assert ((centre - head.landmarks[:, 42:48].mean(1)).norm(dim=1) < 2.5).all()


def test_the_far_cheek_is_not_visible_in_profile():
    profile = WORLD.sample(6, size=64, yaw=(70, 85), roll=(0, 0), pitch=(0, 0))
    frontal = WORLD.sample(6, size=64, yaw=(-5, 5))
    assert frontal.landmarks_visible[:, 17:].float().mean() > 0.9
    near, far = profile.landmarks_visible[:, [36, 37, 41]].float().mean(), profile.landmarks_visible[:, [42, 45, 46]].float().mean()
    assert near > 0.7 > 0.3 > far


# ---------------------------------------------------------------------------------------------------- rerender and flow


def test_rerender_without_changes_is_the_same_picture():
    assert same(WORLD.rerender(TEN), TEN)


def test_rerender_changes_what_it_names_and_nothing_else():
    other = WORLD.rerender(TEN, pose=torch.tensor([0.2, 0.0, 0.0]))
    for name, value in TEN._known():
        kept = torch.equal(getattr(other, name), value)
        assert kept == (name not in ("image", "landmarks", "pose", "face_mask", "landmarks_visible")), name
    larger = WORLD.rerender(TEN, size=96)
    assert larger.image.shape[-1] == 96 and torch.allclose((larger.landmarks + 0.5) / 1.5 - 0.5, TEN.landmarks, atol=0.01)
    swapped = WORLD.rerender(TEN, light=TEN.light.flip(0))
    assert torch.equal(swapped.landmarks, TEN.landmarks) and not torch.equal(swapped.image, TEN.image)


def test_rerender_and_flow_refuse_what_they_cannot_do():
    photograph = FaceBatch(image=TEN.image, landmarks=TEN.landmarks)
    with pytest.raises(MissingTruthError, match="photographs"):
        WORLD.rerender(photograph, pose=torch.zeros(3))
    with pytest.raises(MissingTruthError):
        WORLD.flow(photograph, TEN)
    with pytest.raises(ShapeError, match="smile"):
        WORLD.rerender(TEN, smile=1.0)
    with pytest.raises(ShapeError, match="pose"):
        WORLD.rerender(TEN, pose=torch.zeros(4))
    with pytest.raises(ShapeError, match="length and size"):
        WORLD.flow(TEN, TEN[:3])
    with pytest.raises(ShapeError, match="same people"):
        WORLD.flow(TEN, TEN[torch.arange(9, -1, -1)])


def test_flow_of_a_face_to_itself_is_zero():
    displacement, visible = WORLD.flow(TEN, TEN)
    assert displacement.abs().max() < 1 / 256, "the rasteriser places vertices on a grid of 1/256 pixel"
    drawn = TEN.face_mask > 0
    assert visible[drawn].float().mean() > 0.99, "a face sees all of itself, but at the rim"


def test_the_exact_flow_moves_pixels_to_the_truth():
    a = WORLD.sample(6, size=96, expressions="neutral", yaw=(-5, 5), start=60)
    b = WORLD.rerender(a, pose=a.pose + torch.tensor([0.3, 0.05, 0.0]))
    displacement, visible = WORLD.flow(a, b)
    seen = visible & (b.face_mask > 0)
    assert seen.sum() > 0.6 * b.face_mask.sum()
    right = psnr(warp(a.image, displacement), b.image, seen)
    rivals = [psnr(a.image, b.image, seen), psnr(warp(a.image, -displacement), b.image, seen)]
    assert right > 22 and right > max(rivals) + 6, (right, rivals)


# ---------------------------------------------------------------------------------------------------- clips, other models


def test_a_clip_is_one_person_moving_smoothly():
    clip = WORLD.clip(3, 30, size=64)
    assert len(clip) == 30 and set(clip.identity.tolist()) == {3}
    assert (clip.appearance == WORLD.sample(1, size=16, start=3).appearance).all()
    step = clip.landmarks.diff(dim=0).norm(dim=-1)
    assert step.max() < 4 and (clip.landmarks[-1] - clip.landmarks[0]).norm(dim=-1).mean() > 1
    with pytest.raises(ShapeError, match="frames"):
        WORLD.clip(0, 0)


def test_the_world_runs_on_a_scanned_model():
    path = assets_folder() / "ict_facekit" / "ict_facekit_light.npz"
    if not path.is_file():
        pytest.skip("ICT-FaceKit's npz is not in the assets folder (FACELAB_ASSETS)")
    world = FaceWorld(seed=1, model=MorphableModel.load(path))
    faces = world.sample(4, size=64, expressions=["smile", "scream"], yaw=(-20, 20))
    assert faces.expression_coefficients.shape[1] == len(world.model.expression_names)
    assert faces.image.std() > 0.1 and (faces.face_mask.mean((1, 2, 3)) > 0.06).all()
    opened = world.sample(4, size=64, expressions="scream", yaw=(0, 0), pitch=(0, 0), roll=(0, 0))
    assert (opened.landmarks[:, 66, 1] - opened.landmarks[:, 62, 1]).mean() > 2


# ---------------------------------------------------------------------------------------------------- cache


def test_a_cache_holds_what_sample_gives(tmp_path):
    cache = WORLD.cache(6, 32, tmp_path / "faces", people=2, yaw=(-30, 30))
    faces = WORLD.sample(6, size=32, people=2, yaw=(-30, 30))
    stored = cache[:]
    assert len(cache) == 6 and cache.size == 32
    assert (stored.image - faces.image).abs().max() <= 0.5 / 127.5 + 1e-6
    for name, value in faces._known():
        assert name == "image" or torch.equal(getattr(stored, name), value), name
    assert torch.equal(cache[-1].image, stored[5].image) and torch.equal(cache[[4, 1]].image, stored[[4, 1]].image)
    assert torch.equal(cache[torch.tensor([0, 3])].pose, stored.pose[[0, 3]])
    before = (tmp_path / "faces" / "image.npy").stat().st_mtime_ns
    assert len(WORLD.cache(6, 32, tmp_path / "faces", people=2, yaw=(-30, 30))) == 6
    assert (tmp_path / "faces" / "image.npy").stat().st_mtime_ns == before, "finished, it opens at once"
    with pytest.raises(AssetError, match="yaw"):
        WORLD.cache(6, 32, tmp_path / "faces", people=2, yaw=(-10, 10))


def test_a_killed_cache_goes_on_where_it_was(tmp_path):
    code = f"from facelab.faces import FaceWorld; FaceWorld(seed=5).cache(1024, 16, {str(tmp_path / 'k')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    manifest = tmp_path / "k" / "faces.json"
    for _ in range(1200):
        if manifest.is_file() and json.loads(manifest.read_text())["done"] >= 128:
            break
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = json.loads(manifest.read_text())["done"]
    assert 128 <= done < 1024, "killed half-way"
    with pytest.raises(AssetError, match=f"{done} of 1024"):
        FaceCache(tmp_path / "k")
    first = (tmp_path / "k" / "pose.npy").stat().st_ino
    cache = WORLD.cache(1024, 16, tmp_path / "k")
    assert (tmp_path / "k" / "pose.npy").stat().st_ino == first, "what was written is kept"
    fresh = WORLD.sample(4, size=16, start=done - 2)
    assert (cache[done - 2 : done + 2].image - fresh.image).abs().max() <= 0.5 / 127.5 + GREY


def test_damaged_caches_are_named(tmp_path):
    with pytest.raises(AssetError, match="no made faces"):
        FaceCache(tmp_path)
    WORLD.cache(2, 16, tmp_path / "c")
    image = tmp_path / "c" / "image.npy"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(AssetError, match="image.npy"):
        FaceCache(tmp_path / "c")
    os.unlink(tmp_path / "c" / "faces.json")
    (tmp_path / "c" / "faces.json").write_text("{")
    with pytest.raises(AssetError, match="damaged"):
        FaceCache(tmp_path / "c")


# ---------------------------------------------------------------------------------------------------- FaceBatch


def test_a_batch_indexes_like_a_tensor():
    assert len(TEN[3]) == 1 and torch.equal(TEN[-1].image, TEN.image[9:]) and len(TEN[2:5]) == 3
    mask = torch.arange(10) % 2 == 0
    assert torch.equal(TEN[mask].landmarks, TEN.landmarks[mask]) and torch.equal(TEN[[7, 1]].pose, TEN.pose[[7, 1]])
    assert same(FaceBatch.cat([TEN[:4], TEN[4:]]), TEN)
    with pytest.raises(IndexError):
        TEN[10]


def test_a_batch_knows_what_it_does_not_know():
    photograph = FaceBatch(image=TEN.image, landmarks=TEN.landmarks)
    assert photograph.pose is None and photograph[2:4].landmarks.shape == (2, 68, 2)
    with pytest.raises(MissingTruthError, match="pose, light"):
        photograph.require("landmarks", "pose", "light")
    assert FaceBatch.cat([photograph, TEN]).pose is None
    with pytest.raises(ShapeError, match="3, H, W"):
        FaceBatch(image=TEN.image[:, :1])
    with pytest.raises(ShapeError, match="landmarks"):
        FaceBatch(image=TEN.image, landmarks=TEN.landmarks[:3])
