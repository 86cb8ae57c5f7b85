"""Films: what is written opens again, says what it is, and nothing half-written is left."""
import av
import numpy as np
import pytest
import torch
from PIL import Image

from facelab.core import PictureError, ShapeError
from facelab.faces import FaceWorld
from facelab.faces.photos.read import frames
from facelab.show.film import MADE, film


@pytest.fixture(scope="module")
def clip():
    return FaceWorld(3).clip(0, 5, 64).image


def test_a_gif_has_its_frames_its_pace_and_its_label(clip, tmp_path):
    path = film(clip, tmp_path / "new" / "face.gif", rate=20, progress=False)
    with Image.open(path) as picture:
        assert picture.n_frames == 5 and picture.info["duration"] == 50 and MADE.encode() in picture.info["comment"]
        for number in (0, 4):
            picture.seek(number)
            shown = np.asarray(picture.convert("RGB")).astype(float)
            true = ((clip[number].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
            assert np.abs(shown - true).mean() < 8


def test_an_mp4_opens_again(clip, tmp_path):
    path = film(clip, tmp_path / "face.mp4", progress=False)
    again = [picture for _, picture in frames(path, 1)]
    assert len(again) == 5 and np.abs(again[2].astype(float) - ((clip[2].permute(1, 2, 0).numpy() + 1) * 127.5)).mean() < 8
    with av.open(str(path)) as opened:
        assert opened.metadata["comment"] == MADE and opened.streams.video[0].average_rate == 25


def test_what_cannot_be_filmed(clip, tmp_path, monkeypatch):
    for wrong, message in ((clip[:0], "at least one"), (clip[0], "at least one")):
        with pytest.raises(PictureError, match=message):
            film(wrong, tmp_path / "face.gif")
    with pytest.raises(PictureError, match="gif or .mp4"):
        film(clip, tmp_path / "face.avi")
    with pytest.raises(PictureError, match="even"):
        film(clip[..., :63], tmp_path / "face.mp4", progress=False)
    with pytest.raises(ShapeError):
        film(torch.zeros(2, 5, 8, 8), tmp_path / "face.gif")
    film(clip, tmp_path / "face.gif", progress=False)
    before = (tmp_path / "face.gif").read_bytes()
    monkeypatch.setattr(Image.Image, "save", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        film(clip, tmp_path / "face.gif", progress=False)
    assert (tmp_path / "face.gif").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["face.gif"]
