"""A photograph brought in by hand: a good one is found, framed and handed on; a bad one is told why, and changes nothing."""
import datetime
import importlib.util
import io
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from facelab.core import LandmarkError, ShapeError
from facelab.faces import FaceWorld
from facelab.show import PhotoUpload
from facelab.show.pictures import to_pixels

pytestmark = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")
NOW = datetime.datetime.now(datetime.UTC)
PORTRAIT = skimage.data.astronaut()[:256, 96:352]


def encoded(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side):
    """A PNG of a few bytes that claims to be ``side`` square."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"\x78\x9c")


@pytest.fixture
def upload():
    return PhotoUpload(64, detector="dlib")


def choose(upload, name, content):
    """What the browser does when a file is chosen."""
    upload.upload.value = ({"name": name, "type": "", "size": len(content), "content": memoryview(content), "last_modified": NOW},)


def test_the_button_waits_for_consent(upload):
    assert upload.upload.disabled and "facelab-upload" in upload.view._dom_classes
    upload.agreed.value = True
    assert not upload.upload.disabled
    upload.agreed.value = False
    assert upload.upload.disabled


def test_a_photograph_is_found_framed_shown_and_handed_on(upload):
    given = []
    upload.then = given.append
    with pytest.raises(LandmarkError, match="open a photograph first"):
        upload.draw()
    assert upload._picture.layout.display == "none"
    choose(upload, "me <b>.jpg", encoded(PORTRAIT, "JPEG"))
    assert given == [upload.face] and upload.face.image.shape == (1, 3, 64, 64) and upload.face.landmarks.shape == (1, 68, 2)
    assert upload.upload.value == (), "the file is not kept"
    assert "pixels wide in me &lt;b&gt;.jpg" in upload.said.value and upload._picture.layout.display is None
    drawn = upload.draw()
    assert drawn.shape == (224, 3 * 224, 3)
    shown = np.asarray(Image.open(io.BytesIO(upload._picture.value))).astype(int)
    assert np.abs(shown - drawn).mean() < 4
    left, top, right, bottom = (round(edge * 224 / 256) for edge in upload.found.box)
    assert (np.abs(drawn[top : bottom + 1, left].astype(int) - (64, 224, 255)).max(axis=1) < 40).mean() > 0.8, "the box"
    choose(upload, "again.png", encoded(PORTRAIT))
    assert len(given) == 2, "the same picture, as another file"


def test_a_path_and_pixels_go_the_same_way(upload, tmp_path):
    (tmp_path / "me.png").write_bytes(encoded(PORTRAIT))
    assert upload.open(tmp_path / "me.png") and "in me.png" in upload.said.value
    by_path = upload.face.image
    assert upload.open(PORTRAIT) and (upload.face.image == by_path).all() and "in the picture" in upload.said.value
    made = FaceWorld(0).sample(1, size=256, start=600, yaw=(-8, 8))
    assert upload.open(to_pixels(made.image[0]), "a made face")
    assert not upload.open(tmp_path) and not upload.open(tmp_path / "gone.png")
    wide = np.pad(PORTRAIT[:, 20:], ((0, 0), (0, 200), (0, 0)))
    assert upload.open(wide[:200]) and "lies outside the picture" in upload.said.value
    assert upload.draw().shape == (224, 3 * 224, 3), "a picture that is not square"


ROW = np.concatenate([PORTRAIT] * 3, axis=1)
BAD = {
    "notes.txt": (b"hello", "not a picture in a format"),
    "page.png": (b"<html><img src=x>", "not a picture in a format"),
    "empty.jpg": (b"", "not a picture in a format"),
    "film.mp4": (b"\x00\x00\x00\x18ftypmp42" + bytes(50), "not a picture in a format"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture in a format"),
    "cut.jpg": (encoded(PORTRAIT, "JPEG")[:4000], "cannot be read"),
    "cut.png": (encoded(PORTRAIT)[:4000], "cannot be read"),
    "bomb.png": (bomb(30_000), "64 megapixels"),
    "barely.png": (bomb(8_100), "64 megapixels"),
    "wall.png": (encoded(np.full((200, 300, 3), 128, np.uint8)), "no face found in wall.png"),
    "dot.png": (encoded(np.full((1, 1, 3), 128, np.uint8)), "no face found"),
    "three.png": (encoded(ROW), "3 faces of about the same size in three.png"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_told_why_and_changes_nothing(upload, name):
    content, message = BAD[name]
    upload.then = lambda face: pytest.fail("handed on")
    choose(upload, name, content)
    assert upload.said.value.startswith("<b>Not used.</b>") and message in upload.said.value and name in upload.said.value
    assert "Traceback" not in upload.said.value and "/" not in upload.said.value.replace("</b>", "")
    assert upload.face is None and upload._picture.layout.display == "none" and upload.upload.value == ()


def test_a_face_too_small_is_told_so_and_the_one_before_stays():
    upload = PhotoUpload(128, detector="dlib")
    choose(upload, "me.png", encoded(PORTRAIT))
    before, drawn = upload.face, upload._picture.value
    small = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((205, 205), Image.Resampling.LANCZOS))[:102, 38:140]
    choose(upload, "far.png", encoded(small))
    assert "the face in far.png is" in upload.said.value and "too small" in upload.said.value and "before it stays" in upload.said.value
    assert upload.face is before and upload._picture.value == drawn


def test_who_takes_the_face_may_refuse_it(upload):
    def refuse(face):
        raise ShapeError("this model takes 128 px")

    upload.then = refuse
    assert not upload.open(PORTRAIT) and "this model takes 128 px" in upload.said.value and upload.face is None
