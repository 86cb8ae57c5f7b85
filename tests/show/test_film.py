"""Films: what is written opens again, says what it is, and nothing half-written is left."""
import av
import numpy as np
import pytest
import torch
from PIL import Image

from facelab.core import PictureError, ShapeError
from facelab.faces import FaceWorld
from facelab.faces.photos import comment_of
from facelab.faces.photos.read import frames
from facelab.show.film import MADE, film, save_picture


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


@pytest.mark.parametrize("name", ["face.png", "face.jpg", "face.JPEG", "face.gif", "face.mp4"])
def test_every_file_says_that_it_was_made(clip, tmp_path, name):
    path = tmp_path / "new" / name
    written = film(clip, path, progress=False) if path.suffix in (".gif", ".mp4") else save_picture(clip[0], path)
    assert written == path and comment_of(path) == MADE == "made with facelab"
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_saved_picture_opens_again_and_tells_nothing_else(clip, tmp_path):
    pixels = ((clip[0].permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
    for name, off in (("face.png", 0.51), ("face.jpg", 12)):
        with Image.open(save_picture(clip[0], tmp_path / name)) as picture:
            assert np.abs(np.asarray(picture) - pixels).mean() < off
            assert set(picture.info) <= {"Comment", "comment", "jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert not picture.getexif()
    again = save_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / "face.png")  # our own may be replaced
    assert Image.open(again).size == (4, 4)


def test_what_was_not_made_here_is_never_replaced(clip, tmp_path):
    for name in ("me.png", "me.jpg", "me.gif"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "me.mp4").write_bytes(b"no film")
    for path in sorted(tmp_path.iterdir()):
        before = path.read_bytes()
        with pytest.raises(PictureError, match=f"{path.name} is there already and was not made with facelab"):
            film(clip, path, progress=False) if path.suffix in (".gif", ".mp4") else save_picture(clip[0], path)
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4, "and nothing half-written is left"


def test_what_cannot_be_saved(clip, tmp_path):
    with pytest.raises(PictureError, match=r"\.png or \.jpg"):
        save_picture(clip[0], tmp_path / "face.webp")
    with pytest.raises(PictureError, match="one picture"):
        save_picture(clip, tmp_path / "face.png")
    with pytest.raises(ShapeError):
        save_picture(torch.zeros(5, 8, 8), tmp_path / "face.png")


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
