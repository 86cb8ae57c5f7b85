"""The careless photographer: where landmarks, roll and camera go, against the renderer and the morphable model."""
import math

import pytest
import torch
from stand_ins import seeded

from facelab.faces import FaceBatch, FaceWorld
from facelab.faces.careless import developed, reframed
from facelab.geometry import MorphableModel
from facelab.geometry.pose import Parameters, place


def fixed(*values):
    """Stands for the photographer's random numbers: each call takes the next value, everywhere."""
    left = list(values)
    return lambda *shape: torch.full(shape, left.pop(0))


STILL = (0.5, 0.15 / 0.35, 0.5)  # no turn, zoom 1, no shift
MOVES = pytest.mark.parametrize("draws", [
    (0.9, *STILL[1:]), (STILL[0], 0.9, STILL[2]), (*STILL[:2], 0.9), (0.1, 0.0, 0.2),
], ids=["turn", "zoom", "shift", "all"])  # fmt: skip


@pytest.fixture(scope="module")
def faces():
    return FaceWorld(3).sample(8, size=32, people=4)


def test_a_careful_photographer_changes_nothing(faces):
    kept = reframed(faces, fixed(*STILL))
    torch.testing.assert_close(kept.image, faces.image, atol=1e-4, rtol=0)
    for name in ("landmarks", "pose", "camera"):
        torch.testing.assert_close(getattr(kept, name), getattr(faces, name), atol=1e-3, rtol=0)


@MOVES
def test_landmarks_go_where_the_picture_goes(draws):
    """A bright spot on a landmark is found where the moved landmark is; a photograph needs no pose and no camera for it."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    spots = torch.tensor([[20.0, 25.0], [40.0, 22.0], [33.0, 45.0]])
    image = torch.exp(-((x - spots[:, 0, None, None]) ** 2 + (y - spots[:, 1, None, None]) ** 2) / 8)[:, None].expand(-1, 3, -1, -1)
    moved = reframed(FaceBatch(image, spots[:, None].expand(-1, 68, -1)), fixed(*draws))
    mass = moved.image[:, 0] / moved.image[:, 0].sum(dim=(1, 2), keepdim=True)
    found = torch.stack([(mass * x).sum(dim=(1, 2)), (mass * y).sum(dim=(1, 2))], dim=1)
    torch.testing.assert_close(moved.landmarks[:, 0], found, atol=0.1, rtol=0)
    assert moved.pose is None and moved.camera is None


@MOVES
def test_roll_and_camera_go_with_the_landmarks(faces, draws):
    """The model's own landmarks, placed by the new pose and camera, fall on the moved ones."""
    moved, model = reframed(faces, fixed(*draws)), MorphableModel.default()
    placed = place(model, Parameters.of(moved), faces.size)[:, model.landmarks, :2]
    torch.testing.assert_close(placed, moved.landmarks, atol=0.02, rtol=0)
    assert (moved.landmarks - faces.landmarks).abs().mean() > 0.5


def test_the_roll_it_adds_is_the_renderers():
    """A picture turned by the photographer and a head that rolled by as much hold their eyes alike."""
    world = FaceWorld(3)
    front = world.sample(4, size=64, yaw=(0, 0), pitch=(0, 0), roll=(0, 0))
    turned = reframed(front, fixed(0.9, *STILL[1:]))
    rolled = world.rerender(front, pose=turned.pose).landmarks
    across = [points[:, 42:48].mean(dim=1) - points[:, 36:42].mean(dim=1) for points in (turned.landmarks, rolled)]
    angles = [torch.atan2(vector[:, 1], vector[:, 0]) for vector in across]
    torch.testing.assert_close(*angles, atol=math.radians(1.5), rtol=0)
    assert (angles[0].abs() > math.radians(8)).all()


def test_development_keeps_pictures_pictures(faces):
    many = faces.image.repeat(30, 1, 1, 1)
    made = developed(many, lambda *shape: torch.rand(*shape, generator=seeded()))
    assert made.shape == many.shape and made.abs().max() <= 1 and made.isfinite().all()
    assert (made - many).abs().mean(dim=(1, 2, 3)).min() > 0.005  # nobody is left as they were
