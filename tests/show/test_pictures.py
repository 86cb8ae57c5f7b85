"""Pictures: pixels land where they should, with the right values and colours."""
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from facelab import show
from facelab.core import ShapeError
from facelab.geometry import MorphableModel
from facelab.show.pictures import CLUSTERS, LINE


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_pixels_of_pictures_and_maps():
    picture = torch.tensor([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert show.to_pixels(picture)[0, 0, :, 1].tolist() == [0, 128, 255, 255]
    assert show.to_pixels(torch.tensor([[[0.0, 0.5, 1.0, float("nan")]]])).tolist() == [[[0] * 3, [128] * 3, [255] * 3, [0] * 3]]
    ready = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert show.to_pixels(ready) is ready
    with pytest.raises(ShapeError, match="picture"):
        show.to_pixels(torch.zeros(2, 8, 8))


def test_tint_is_the_line_where_the_map_is_one_and_the_picture_where_it_is_zero():
    mixed = show.tint(torch.full((3, 1, 3), -0.2), torch.tensor([[[0.0, 1.0, 0.5]]]))
    assert mixed[0, 0].tolist() == [102] * 3 and mixed[0, 1].tolist() == list(LINE)
    assert np.allclose(mixed[0, 2], (np.array(LINE) + 102) / 2, atol=1)


def test_clay_shows_the_head_where_it_is():
    model = MorphableModel.default()
    heads = torch.stack([model.mean, model.mean + torch.tensor([5.0, 0.0, 0.0])])
    here, moved = (pixels.min(axis=-1) < 250 for pixels in show.clay(model, heads, 80, width=40))
    assert here[40, 40] and not here[0, 0]
    assert np.array_equal(moved[:, 10:], here[:, :-10])  # 5 of 40 cm are 10 of 80 pixels, to the right
    lower = show.clay(model, heads[:1], 80, width=40, origin=(0.5, 0.75))[0].min(axis=-1) < 250
    assert np.array_equal(lower[20:], here[:-20])


def test_clay_is_lit_from_the_front_and_from_the_left():
    model = MorphableModel.default()
    head = show.clay(model, model.mean[None], 96, width=40)[0].astype(int).sum(axis=-1)
    rows, across = head[30:45], head[36]
    face = np.nonzero(across < 740)[0]
    edge, middle = head[30:45, face[-3:]].mean(), rows[:, 40:56].mean()
    assert middle > edge + 60  # what faces us is brighter than what turns away
    assert rows[:, face[:10]].mean() > rows[:, face[-10:]].mean()


def test_sheet_places_each_picture_once_row_by_row():
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30, 40, 50)]
    figure = show.sheet(pictures, 3, titles=["a", "b", "c"], rows=["one", "two"], captions=["p", "q"])
    shown = [axis.images[0].get_array()[0, 0, 0] if axis.images else None for axis in figure.axes]
    assert shown == [10, 20, 30, 40, 50, None]
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a", "b", "c"]
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert words == ["p", "one", "q", "two"]
    with pytest.raises(ShapeError):
        show.sheet([], 3)


def test_flow_colours():
    flow = np.zeros((2, 1, 4))
    flow[0, 0, 1:] = 3, -3, 1.5  # right, left, half as far to the right
    rest, right, left, half = show.flow_colours(flow)[0].astype(int)
    assert rest.tolist() == [255] * 3
    assert right.tolist() == [255, 0, 0] and left.tolist() == [0, 255, 255]
    assert half[0] == 255 and abs(half[1] - 128) <= 1
    assert show.flow_colours(flow, longest=6)[0, 1].tolist()[1] == pytest.approx(128, abs=1)
    assert (show.flow_colours(np.zeros((2, 3, 3))) == 255).all()


def test_projection_colours_points_by_label():
    points, labels = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 3
    figure = show.projection(points, labels, {"star": np.zeros(3)})
    dots = figure.axes[0].collections[0]
    assert np.allclose(dots.get_offsets(), points[:, :2])
    assert np.allclose(dots.get_facecolors()[:, :3], np.array(CLUSTERS)[labels] / 255)
    assert len(figure.axes) == 2 and "star" in [t.get_text() for t in figure.axes[0].texts]
    assert len(show.projection(points[:, :2], labels).axes) == 1
    with pytest.raises(ShapeError, match="labels"):
        show.projection(points, labels[:3])


def test_histograms_count_grey_levels():
    half = np.repeat(np.array([[0, 200]], np.uint8), 4, axis=0)
    figure = show.histograms({"two levels": half}, {"two levels": "1 bit"})
    bars = figure.axes[1]
    outline = np.concatenate([path.vertices for collection in bars.collections for path in collection.get_paths()])
    assert outline[:, 1].max() == pytest.approx(0.5)
    assert bars.get_title() == "1 bit"


def test_overlay_draws_landmarks_and_lines():
    from facelab.geometry import boundary_curves

    marks = MorphableModel.default().mean[MorphableModel.default().landmarks, :2] * torch.tensor([2.0, -2.0]) + 32
    _, axis = plt.subplots()
    show.overlay(axis, torch.zeros(3, 64, 64), marks, boundary_curves(marks), names=True)
    assert len(axis.lines) == 13 and len(axis.texts) == 68
    assert np.allclose(axis.collections[0].get_offsets(), marks)


def test_house_shows_every_room_and_what_is_in_it():
    figure = show.house([("core", ["errors"]), ("papers", ["fvae", "af_vae"])])
    assert [t.get_text() for t in figure.axes[0].texts if t.get_text()] == ["core", "errors", "papers", "fvae", "af_vae"]


def test_an_unknown_profile_is_named():
    with pytest.raises(ShapeError, match="gpuu.*smoke, cpu, gpu, paper"):
        show.begin("gpuu", 0)
