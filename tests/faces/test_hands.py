"""HandWorld: the same hand for the same number, joints inside the hand that is drawn, poses that move it, and named errors."""
import numpy as np
import pytest
import torch

from facelab.core import MissingTruthError, ShapeError
from facelab.faces import FaceBatch, HandWorld
from facelab.faces.hands import GESTURES
from facelab.faces.hands.paint import LOOK
from facelab.faces.hands.shape import ANGLES, FINGERS, JOINTS, skeleton, template
from facelab.geometry import boundary_map


@pytest.fixture(scope="module")
def batch():
    return HandWorld(3).sample(48, size=64)


def test_a_batch_knows_a_hand(batch):
    shapes = {"image": (3, 64, 64), "landmarks": (21, 2), "identity": (), "expression": (), "pose": (3,), "face_mask": (1, 64, 64),
              "expression_coefficients": (ANGLES,), "identity_coefficients": (8,), "landmarks_3d": (21, 3),
              "appearance": (len(LOOK),)}  # fmt: skip
    for name, shape in shapes.items():
        assert getattr(batch, name).shape == (48, *shape), name
    assert batch.image.dtype == torch.float32 and batch.image.min() >= -1 and batch.image.max() <= 1
    assert torch.isfinite(batch.image).all() and batch.identity.tolist() == list(range(48))
    assert len(set(batch.expression.tolist())) > 8 and batch.expression.max() < len(GESTURES)
    assert boundary_map(batch.landmarks, 64).amax((1, 2, 3)).min() > 0.9


def test_a_hand_is_a_pure_function_of_seed_and_number(batch):
    for other in (HandWorld(3).sample(6, size=64, start=20), FaceBatch.cat([HandWorld(3).sample(1, start=i) for i in range(20, 26)])):
        for name in ("image", "landmarks", "face_mask", "pose", "appearance"):
            assert torch.equal(getattr(other, name), getattr(batch[20:26], name)), name
    assert not torch.equal(HandWorld(4).sample(6).image, batch[:6].image)
    few = HandWorld(3).sample(30, people=4)
    assert set(few.identity.tolist()) == {0, 1, 2, 3}
    for person in range(4):
        rows = few[few.identity == person]
        for name in ("appearance", "identity_coefficients"):
            assert (getattr(rows, name) == getattr(batch, name)[person]).all()


def test_landmarks_lie_on_the_drawn_hand(batch):
    assert batch.landmarks.min() > 0 and batch.landmarks.max() < 63
    near = torch.nn.functional.max_pool2d(batch.face_mask, 3, 1, 1)[:, 0]  # to a pixel: fingertips are landmarks on the edge
    x, y = batch.landmarks.round().long().unbind(-1)
    assert near[torch.arange(48)[:, None], y, x].min() > 0.5
    share = batch.face_mask.mean((1, 2, 3))
    assert share.min() > 0.05 and share.max() < 0.6


def test_the_mask_is_where_skin_is_drawn():
    """Two backdrops differ exactly where no hand or sleeve is."""
    world = HandWorld(5)
    bare = world.sample(12, size=48)
    look = bare.appearance.clone()
    look[:, LOOK.index("cuff")] = -90
    bare = world.rerender(bare, appearance=look)
    background = torch.zeros_like(bare.background)
    lit = world.rerender(bare, background=background + 0.5)
    dark = world.rerender(bare, background=background)
    moved = (lit.image - dark.image).abs().amax(1, keepdim=True)
    assert moved[bare.face_mask == 1].max() == 0 and moved[bare.face_mask < 0.9].min() > 0.02


def test_rerender_keeps_what_is_not_named_and_takes_anothers_pose(batch):
    world = HandWorld(3)
    same = world.rerender(batch[:8])
    assert torch.equal(same.image, batch[:8].image) and torch.equal(same.landmarks, batch[:8].landmarks)
    a, b = batch[:8], batch[8:16]
    moved = world.rerender(a, pose=b.pose, expression_coefficients=b.expression_coefficients, camera=b.camera)
    assert torch.equal(moved.identity, a.identity) and torch.equal(moved.light, a.light)
    apart = (moved.landmarks - b.landmarks).norm(dim=-1).mean(1)  # what is left is the persons' proportions
    assert apart.max() < 4 and (moved.landmarks - a.landmarks).norm(dim=-1).mean(1).mean() > 4 * apart.mean()
    other = world.rerender(a, camera=a.camera * torch.tensor([1, 1, 1, -1]), pose=a.pose * torch.tensor([-1, 1, -1]))
    flipped = other.landmarks * torch.tensor([-1.0, 1]) + 2 * torch.stack([a.camera[:, 1] * 64 - 0.5, 0 * a.camera[:, 1]], 1)[:, None]
    torch.testing.assert_close(flipped, a.landmarks, atol=1e-3, rtol=0)  # a left hand is a right one in the mirror
    big = world.rerender(a, size=96)
    torch.testing.assert_close((big.landmarks + 0.5) / 96, (a.landmarks + 0.5) / 64, atol=1e-5, rtol=0)
    small = torch.nn.functional.interpolate(world.rerender(a, size=128).image, scale_factor=0.5, mode="area")
    assert (small - a.image).abs().mean() < 0.03


def test_different_poses_differ_and_gestures_look_alike(batch):
    """Bent fingers bring the tips to the palm, and only those."""
    reach = (batch.landmarks_3d[:, FINGERS[:, 3]] - batch.landmarks_3d[:, FINGERS[:, 0]]).norm(dim=-1)
    bent = torch.tensor(list(GESTURES.values()))[batch.expression]
    for finger in range(1, 5):
        straight, curled = reach[bent[:, finger] < 0.1, finger], reach[bent[:, finger] > 0.9, finger]
        assert straight.min() > 1.5 * curled.max()
    assert (batch.image[1:] - batch.image[:-1]).abs().mean((1, 2, 3)).min() > 0.02


def test_the_skeleton_at_rest_and_its_lengths():
    shape, rest = np.ones((1, 8)), np.zeros((1, ANGLES))
    joints, matrices, shifts = skeleton(shape, rest)
    np.testing.assert_allclose(joints[0], JOINTS, atol=1e-12)
    np.testing.assert_allclose(matrices[0], np.tile(np.eye(3), (17, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(shifts, 0, atol=1e-12)
    rng = np.random.default_rng(0)
    joints, *_ = skeleton(np.tile(shape, (50, 1)), rng.normal(0, 0.5, (50, ANGLES)))
    for finger in FINGERS:  # whatever the pose, bones keep their lengths
        want = np.linalg.norm(np.diff(JOINTS[finger], axis=0), axis=1)
        np.testing.assert_allclose(np.linalg.norm(np.diff(joints[:, finger], axis=1), axis=2), np.tile(want, (50, 1)), atol=1e-9)
    bend = np.zeros((1, ANGLES))
    bend[0, 2 + 4 + 2] = np.pi / 2  # the index finger's middle joint, to a right angle
    tip, middle, knuckle = skeleton(shape, bend)[0][0, [8, 6, 5]]
    assert abs((tip - middle) @ (middle - knuckle)) / np.linalg.norm(tip - middle) < 0.3 and tip[2] < middle[2] - 4  # to the palm


def test_the_surface_is_one_closed_skin_round_its_joints():
    mesh = template()
    edges = np.sort(np.concatenate([mesh.triangles[:, [0, 1]], mesh.triangles[:, [1, 2]], mesh.triangles[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.triangles) == 2  # Euler: a sphere, so no two fingers have grown together
    np.testing.assert_allclose(mesh.weights.sum(1), 1)
    corner = mesh.vertices[mesh.triangles]
    facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert abs(np.sign(np.einsum("fi,fi->f", facing, mesh.normals[mesh.triangles[:, 0]])).mean()) > 0.99
    assert (mesh.normals[mesh.vertices[:, 1] > 21 - 2.5, 1] > -0.2).all()  # out of the fingertips, not into them


@pytest.mark.parametrize(
    "arguments", [{"n": -1}, {"n": 1, "start": -1}, {"n": 1, "people": 0}, {"n": 1, "size": 8}, {"n": 1, "size": 5000}]
)
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ShapeError):
        HandWorld().sample(**arguments)


def test_changes_that_cannot_be_made_are_named(batch):
    world = HandWorld(3)
    with pytest.raises(ShapeError, match="cannot change 'gaze'"):
        world.rerender(batch[:2], gaze=0)
    with pytest.raises(ShapeError, match=r"pose must have shape \(2, 3\)"):
        world.rerender(batch[:2], pose=torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="not finite"):
        world.rerender(batch[:2], camera=torch.full((2, 4), float("nan")))
    with pytest.raises(MissingTruthError):
        world.rerender(FaceBatch(image=torch.zeros(1, 3, 64, 64)))
    assert len(world.sample(0)) == 0
