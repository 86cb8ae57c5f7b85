"""Widgets without a browser: moving a control changes the picture's bytes, and what is shown is what ``draw`` says."""
import io

import numpy as np
import pytest
import torch
from PIL import Image

from facelab.core import ShapeError
from facelab.faces import FaceWorld
from facelab.geometry import boundary_map
from facelab.show import ClusterExplorer, Puppet
from facelab.show.pictures import CLUSTERS, to_pixels


@pytest.fixture(scope="module")
def world():
    return FaceWorld(0)


@pytest.fixture
def puppet(world):
    return Puppet(world, world.sample(1, size=32, start=2), size=96)


def shown(puppet):
    return [child.value for child in puppet.view.children[0].children[:2]]


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def test_strings_are_the_models_directions(puppet, world):
    names = list(puppet.sliders)
    assert names[: len(world.model.expression_names)] == list(world.model.expression_names)
    assert names[-3:] == ["yaw", "pitch", "roll"] and "shape_0" in names
    assert all(slider.description == name for name, slider in puppet.sliders.items())
    assert "facelab-puppet" in puppet.view._dom_classes


@pytest.mark.parametrize("string", ["jaw_open", "blink_left", "shape_0", "yaw"])
def test_pulling_a_string_moves_face_and_map_and_letting_go_moves_them_back(puppet, string):
    before = shown(puppet)
    puppet.sliders[string].value = puppet.sliders[string].max
    after = shown(puppet)
    assert before[0] != after[0] and before[1] != after[1]
    for jpeg, drawn in zip(after, puppet.draw(**{string: puppet.sliders[string].max}), strict=True):
        assert np.abs(pixels(jpeg) - drawn).mean() < 4  # the widget shows what draw gives, but for JPEG
    puppet.view.children[0].children[2].children[1].click()  # "let go"
    assert shown(puppet) == before


def test_only_the_jaw_moves_when_the_jaw_opens(puppet):
    rest, opened = (face.astype(int) for face, _ in (puppet.draw(), puppet.draw(jaw_open=1)))
    changed = np.abs(rest - opened).max(axis=2) > 12
    assert changed[60:90].mean() > 0.05 and changed[:45].mean() < 0.01


def test_the_map_is_that_of_the_face(puppet, world):
    _, line = puppet.draw(jaw_open=0.5, yaw=30)
    pose, mouth = torch.deg2rad(torch.tensor([[30.0, 0, 0]])), world.model.coefficients(jaw_open=0.5)
    posed = world.rerender(puppet.face, pose=pose, expression_coefficients=mouth, size=96)
    assert np.array_equal(line, to_pixels(boundary_map(posed.landmarks, 96)[0]))


def test_clay_stands_where_the_painted_face_stands(puppet):
    (painted, line), (clay, same_line) = puppet.draw(yaw=20, roll=15), puppet.draw(yaw=20, roll=15, paint=False)
    assert np.array_equal(line, same_line) and not np.array_equal(painted, clay)
    on_the_lines = line[..., 0] > 200
    assert (clay[on_the_lines].min(axis=1) < 250).mean() > 0.97  # the face's lines lie on clay, not beside it
    before = shown(puppet)
    puppet.paint.value = False
    assert shown(puppet)[0] != before[0] and shown(puppet)[1] == before[1]


def test_a_puppet_refuses_what_it_cannot_do(puppet, world):
    with pytest.raises(ShapeError, match="no string called tail"):
        puppet.draw(tail=1)
    with pytest.raises(ShapeError, match="one face"):
        Puppet(world, world.sample(2, size=16))


@pytest.fixture
def explorer():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    centres = np.zeros((4, 16, 16))
    for k in range(4):
        centres[k, 4 * k : 4 * k + 4] = 1
    maps = np.clip(centres[labels] + 0.01 * np.arange(40)[:, None, None] * rng.random((40, 16, 16)), 0, 1)
    pictures = np.full((40, 16, 16, 3), 90, np.uint8)
    points = np.stack([labels + 0.1 * rng.normal(size=40), rng.normal(size=40)], axis=1)
    return ClusterExplorer(pictures, maps, points, labels, centres)


def test_choosing_a_cluster_shows_it(explorer):
    first = explorer._picture.value
    explorer.cluster.value = 3
    assert explorer._picture.value != first
    assert np.abs(pixels(explorer._picture.value) - explorer.draw(3)).mean() < 3
    assert explorer.member.max == 1  # ten members, nine at a time
    third = explorer._picture.value
    explorer.member.value = 1
    assert explorer._picture.value != third


def test_members_are_of_the_cluster_and_the_typical_come_first(explorer):
    for k, members in enumerate(explorer._members):
        assert sorted(members) == list(range(k, 40, 4))
        assert members[0] == k and members[-1] >= 32  # noise grows with the number


def test_the_chart_colours_the_chosen_cluster_only(explorer):
    drawn = explorer.draw(1)
    chart = drawn[:, 2 * explorer.HEIGHT + 8 :].astype(int)
    near = [(np.abs(chart - colour).max(axis=2) < 30).sum() for colour in CLUSTERS[:4]]
    assert near[1] > 100 and near[0] == near[2] == near[3] == 0
    column = np.nonzero(np.abs(chart - CLUSTERS[1]).max(axis=2) < 30)[1].mean() / chart.shape[1]
    assert 0.25 < column < 0.5  # the second of four groups from the left


def test_explorer_refuses_what_does_not_fit(explorer):
    with pytest.raises(ShapeError, match="no cluster 4"):
        explorer.draw(4)
    with pytest.raises(ShapeError, match="a face"):
        ClusterExplorer(explorer.pictures[:3], explorer.maps, np.zeros((40, 2)), explorer.labels, explorer.centres)
