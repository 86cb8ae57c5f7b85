"""Prepared folders: exact alignment, 200 hostile inputs, an interrupted run, and every way a folder can be damaged."""
import csv
import importlib.util
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from facelab.core import AssetError, LandmarkError, MissingTruthError, PictureError, ShapeError, assets_folder
from facelab.faces import EXPRESSIONS
from facelab.faces.landmarks import FoundFace
from facelab.faces.photos import (
    Photos,
    align_face,
    align_points,
    comment_of,
    frame_face,
    prepare,
    prepare_folder,
    prepare_picture,
    read,
    read_picture,
)
from facelab.geometry.boundary import boundary_map

needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")
PORTRAIT = skimage.data.astronaut()[:256, 96:352]


def frontal(centre=(128.0, 128.0), unit=8.0):
    """68 landmarks of a plain upright face, ``unit`` pixels per centimetre, the head's middle at ``centre``: (68, 2)."""
    half = np.array([[(-7.5 * np.cos(a), 10 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]])[0]
    brows = np.array([(x, -2.2) for x in (-5.5, -4.6, -3.7, -2.7, -1.7, 1.7, 2.7, 3.7, 4.6, 5.5)])
    nose = np.array([(0, y) for y in (0.2, 1.4, 2.4, 3.3)] + [(x, 4.4) for x in (-1.2, -0.6, 0, 0.6, 1.2)])
    eye = np.array([(-1.5, 0), (-0.5, -0.5), (0.5, -0.5), (1.5, 0), (0.5, 0.5), (-0.5, 0.5)])
    mouth = np.array([(2.6 * np.cos(a), 6.7 + np.sin(a)) for a in np.linspace(-np.pi, np.pi, 13)[:12]])
    inner = np.array([(2.2 * np.cos(a), 6.7 + 0.3 * np.sin(a)) for a in np.linspace(-np.pi, np.pi, 9)[:8]])
    points = np.concatenate([half, brows, nose, eye + [-3.125, 0], eye + [3.125, 0], mouth, inner])
    return (points * unit + centre).astype(np.float32)


class Pointing:
    """A detector that finds one face, always at the same place; quick, for what is not about finding."""

    name, reason = "pointing", "a test"

    def __call__(self, picture):
        height, width = picture.shape[:2]
        points = frontal((width / 2, height / 2), min(width, height) / 32)
        return [FoundFace(points, (*points.min(0).tolist(), *points.max(0).tolist()), 1.0)], 1.0


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)


# ------------------------------------------------------------------------------------------------------------------- alignment


@pytest.mark.parametrize("unit", [3.0, 8.0, 25.0])
@pytest.mark.parametrize("degrees", [3, 25, -70])
def test_alignment_moves_picture_and_landmarks_alike(unit, degrees):
    """A source whose red and green are its own x and y must show, at q, the source coordinates that landmarks at q came from."""
    side, size = 800, 96
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (frontal((0, 0), unit) @ rotation + 400).astype(np.float32)
    level = 0.1312 * unit  # source pixels per grey level
    y, x = (np.mgrid[:side, :side] - 400) / level + 128
    dither = np.random.default_rng(0).uniform(0, 1, (side, side, 3))  # so that grey levels are exact on average
    source = np.floor(np.stack([x, y, 0 * x], axis=-1) + dither).clip(0, 255).astype(np.uint8)
    face = align_face(source, points, size)
    assert face.picture.shape == (size, size, 3) and face.zoom == pytest.approx(size / 30 / unit, rel=1e-3)
    assert abs(face.landmarks[[0, 16]].mean(0)[0] - (size / 2 - 0.5)) < 1e-2  # the head's middle
    assert np.abs(face.landmarks[36:48].mean(0)[1] - (0.485 * size - 0.5)) < 0.02 * size  # upright, at eye height
    homogeneous = np.column_stack([face.landmarks, np.ones(68)])
    back, residual, *_ = np.linalg.lstsq(homogeneous, points, rcond=None)  # how landmarks moved says where every pixel came from
    assert residual.max() < 1e-3
    v, u = np.mgrid[:size, :size].reshape(2, -1)
    wanted = np.column_stack([u, v, np.ones(len(u))]) @ back
    coded = (np.abs(wanted - 400) < np.minimum(120 * level, 380)).all(1)  # within the source, and the reach of its grey levels
    seen = (face.picture[v, u, :2].astype(float) - 128) * level + 400
    error = ((seen - wanted) * face.zoom)[coded]  # pixels of the result; a grey level is 0.42 of them
    assert coded.sum() > 4000 and np.abs(error).max() < 0.8 and np.abs(error.mean(0)).max() < 0.03


def test_alignment_keeps_the_source_where_nothing_is_to_do():
    source = np.random.default_rng(0).integers(0, 256, (240, 240, 3), dtype=np.uint8)
    points = frontal((119.5, 0.485 * 240 - 0.5), 8.0)
    face = align_face(source, points, 240)
    assert face.zoom == pytest.approx(1, abs=1e-6) and face.inside == 1
    np.testing.assert_allclose(face.landmarks, points, atol=1e-3)
    assert np.abs(face.picture.astype(int) - source).max() <= 1


def test_alignment_is_antialiased():
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    face = align_face(stripes, frontal((800, 800), 50.0), 64)
    assert face.zoom < 0.05 and np.abs(face.picture.astype(int) - 128).max() < 12


def test_what_lies_outside_the_source_repeats_its_edge_and_is_counted():
    source = np.full((256, 256, 3), 200, np.uint8)
    face = align_face(source, frontal((20, 128), 8.0), 64)
    assert 0.4 < face.inside < 0.8 and (face.picture == 200).all()
    assert align_face(source, frontal((128, 128), 8.0), 64).inside == 1


@pytest.mark.parametrize("points", [np.zeros((68, 2)), np.full((68, 2), np.nan), frontal() + 1e7, frontal(unit=1e6)])
def test_landmarks_that_cannot_be_aligned_are_named(points):
    with pytest.raises(ShapeError):
        align_face(PORTRAIT, points, 64)


@needs_dlib
def test_one_picture_becomes_a_batch():
    batch = prepare_picture(skimage.data.astronaut(), 128, detector="dlib")
    assert batch.image.shape == (1, 3, 128, 128) and -1 <= batch.image.min() < batch.image.max() <= 1
    points = batch.landmarks[0]
    assert points.min() > 0 and points.max() < 127
    assert abs(points[[0, 16]].mean(0)[0] - 63.5) < 1 and abs(points[36:48].mean(0)[1] - 0.485 * 128) < 2
    assert abs(points[36:42].mean(0)[1] - points[42:48].mean(0)[1]) < 2
    with pytest.raises(MissingTruthError, match="pose"):
        batch.require("pose")
    with pytest.raises(LandmarkError):
        prepare_picture(np.zeros((64, 64), np.uint8), detector="dlib")


def test_a_face_too_small_to_be_of_use_is_named():
    picture = np.zeros((640, 640, 3), np.uint8)  # the pointing detector sees 20 pixels a centimetre, 300 across the jaw
    assert frame_face(picture, 800, Pointing())[1].zoom == pytest.approx(800 / 30 / 20, rel=1e-3)
    with pytest.raises(LandmarkError, match=r"me\.jpg is 300 pixels wide, too small: .* enlarged 2\.0 times; .* least 400 wide"):
        frame_face(picture, 1200, Pointing(), name="me.jpg")
    with pytest.raises(LandmarkError, match="too small"):
        prepare_picture(picture, 1200, Pointing())


def test_an_open_file_is_read_like_its_path(tmp_path):
    save(PORTRAIT, tmp_path / "face.png")
    assert np.array_equal(read_picture(io.BytesIO((tmp_path / "face.png").read_bytes())), read_picture(tmp_path / "face.png"))


def test_what_a_file_says_of_itself(tmp_path):
    save(PORTRAIT, tmp_path / "plain.jpg")
    save(PORTRAIT, tmp_path / "told.jpg", comment="déjà vu")
    (tmp_path / "half.png").write_bytes(encoded(PORTRAIT, "PNG")[:20])
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    assert comment_of(tmp_path / "plain.jpg") == "" and comment_of(tmp_path / "told.jpg") == "déjà vu"
    for name in ("half.png", "noise.mp4", "gone.gif"):
        with pytest.raises(PictureError, match=name):
            comment_of(tmp_path / name)


# -------------------------------------------------------------------------------------------------------------- hostile inputs


def png_claiming(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", __import__("zlib").crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"\x78\x9c")


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def video_bytes(picture, folder, frames=3):
    import av

    path = folder / "made.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 256, 256, "yuv420p", 4_000_000
        for _ in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    content = path.read_bytes()
    path.unlink()
    return content


def hostile(folder, scratch):
    """Write 200 inputs below ``folder``; give {name as in the tables: "face", "reject" or "either"}."""
    rng = np.random.default_rng(0)
    expected = {}

    def put(name, content, outcome):
        path = os.path.join(os.fsencode(folder), name) if isinstance(name, bytes) else folder / name
        if not isinstance(name, bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        expected[prepare.printable(os.fsdecode(name))] = outcome

    portrait = Image.fromarray(PORTRAIT)
    jpeg, png = encoded(portrait, "JPEG", quality=90), encoded(portrait, "PNG")
    for i, share in enumerate(np.linspace(0.02, 0.98, 16)):
        put(f"cut/{i:02d}.jpg", jpeg[: int(share * len(jpeg))], "reject")
        put(f"cut/{i:02d}.png", png[: int(share * len(png))], "reject")
    for i in range(20):  # forty bytes of a picture overwritten: it may still decode
        spoiled = bytearray(jpeg if i % 2 else png)
        for at in rng.integers(0, len(spoiled), 40):
            spoiled[at] = rng.integers(256)
        put(f"spoiled/{i:02d}.{'jpg' if i % 2 else 'png'}", bytes(spoiled), "either")
    texts = [
        b"hello", b"<html><img src=x>", b"{}", b"\x7fELF" + bytes(60), b"MZ" + bytes(60), b"PK\x03\x04" + bytes(60), b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", b"#EXTM3U\n/etc/passwd\n", b"\x80\x04\x95cos\nsystem\n",
    ]  # fmt: skip
    for i, text in enumerate(texts):
        put(f"text/{i}.jpg", text, "reject")
        put(f"text/{i}.mp4", text, "reject")
    put("text/huge.png", b"a,b,c\n" * 2_000_000, "reject")
    put("text/noise.jpg", rng.bytes(100_000), "reject")
    for suffix in ("jpg", "png", "gif", "webp", "tif", "mp4", "avi", "csv"):
        put(f"empty/zero.{suffix}", b"", "reject")

    sixty = struct.pack("<HH", 60_000, 60_000)
    huge_jpeg = bytearray(encoded(portrait, "JPEG"))
    start = huge_jpeg.index(b"\xff\xc0")
    huge_jpeg[start + 5 : start + 9] = struct.pack(">HH", 30_000, 30_000)
    bmp = bytearray(encoded(portrait, "BMP"))
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    put("bomb/header.png", png_claiming(30_000, 30_000), "reject")
    put("bomb/barely.png", png_claiming(8_100, 8_100), "reject")
    put("bomb/overflow.png", png_claiming(2**31 - 1, 2**31 - 1), "reject")
    put("bomb/header.jpg", bytes(huge_jpeg), "reject")
    put("bomb/header.bmp", bytes(bmp), "reject")
    put("bomb/header.ppm", b"P6 30000 30000 255\n" + bytes(99), "reject")
    put("bomb/header.gif", b"GIF89a" + sixty + b"\x00\x00\x00," + bytes(4) + sixty + b"\x00\x02\x02L\x01\x00;", "reject")
    put("bomb/real.png", encoded(Image.new("1", (30_000, 3_000)), "PNG"), "reject")

    grey = np.asarray(portrait.convert("L"))
    alpha = portrait.copy()
    alpha.putalpha(Image.fromarray(np.full((256, 256), 255, np.uint8)))
    dip = portrait.quantize(64)
    modes = {
        "grey.jpg": encoded(grey, "JPEG"), "grey.png": encoded(grey, "PNG"), "la.png": encoded(alpha.convert("LA"), "PNG"),
        "rgba.png": encoded(alpha, "PNG"), "rgba.webp": encoded(alpha, "WEBP", lossless=True),
        "cmyk.jpg": encoded(portrait.convert("CMYK"), "JPEG"),
        "cmyk.tif": encoded(portrait.convert("CMYK"), "TIFF"), "palette.png": encoded(dip, "PNG"), "palette.gif": encoded(dip, "GIF"),
        "palette_transparent.png": encoded(dip, "PNG", transparency=0), "ycbcr.tif": encoded(portrait.convert("YCbCr"), "TIFF"),
        "sixteen.png": encoded(grey.astype(np.uint16) * 257, "PNG"), "sixteen.tif": encoded(grey.astype(np.uint16) * 257, "TIFF"),
        "integer.tif": encoded(grey.astype(np.int32), "TIFF"), "float.tif": encoded((grey / 255).astype(np.float32), "TIFF"),
        "float255.tif": encoded(grey.astype(np.float32), "TIFF"), "lab.tif": encoded(Image.merge("LAB", portrait.split()), "TIFF"),
        "progressive.jpg": encoded(portrait, "JPEG", progressive=True), "plain.bmp": encoded(portrait, "BMP"),
        "plain.ppm": encoded(portrait, "PPM"),
        "lzw.tif": encoded(portrait, "TIFF", compression="tiff_lzw"), "plain.webp": encoded(portrait, "WEBP", quality=90),
        "wrong_suffix.png": jpeg, "no_suffix": jpeg, "UPPER.JPG": jpeg,
        "animated.gif": encoded(dip, "GIF", save_all=True, append_images=[dip, dip]),
        "animated.webp": encoded(portrait, "WEBP", save_all=True, append_images=[portrait]),
        "animated.png": encoded(portrait, "PNG", save_all=True, append_images=[portrait]),
        "pages.tif": encoded(portrait, "TIFF", save_all=True, append_images=[portrait]),
    }  # fmt: skip
    for name, content in modes.items():
        put(f"mode/{name}", content, "either" if name.startswith("lab") else "face")
    put("mode/bilevel.png", encoded(portrait.convert("1"), "PNG"), "either")
    put("mode/nan.tif", encoded(np.full((64, 64), np.nan, np.float32), "TIFF"), "reject")
    put("mode/negative.tif", encoded(np.full((64, 64), -5, np.int32), "TIFF"), "reject")
    put("mode/clear.png", encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG"), "reject")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation: the transposition (PIL's number) that a camera would have stored
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = portrait if orientation == 1 else portrait.transpose(Image.Transpose(undo[orientation]))
        put(f"exif/{orientation}.jpg", encoded(stored, "JPEG", exif=exif), "face")
    put("exif/broken.jpg", encoded(portrait, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + bytes(20)), "either")

    for i, side in enumerate((20, 24, 28, 32, 36, 40)):
        put(f"none/noise{i}.png", encoded(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), "PNG"), "reject")
        put(f"none/flat{i}.png", encoded(np.full((side, side, 3), 40 * i, np.uint8), "PNG"), "reject")
    put("none/hand.png", encoded(np.asarray(portrait)[:60, :60], "PNG"), "reject")
    twice = np.concatenate([PORTRAIT, PORTRAIT], axis=1)
    put("many/two.png", encoded(twice, "PNG"), "reject")
    put("many/four.png", encoded(np.concatenate([twice, twice]), "PNG"), "reject")
    double = np.asarray(portrait.resize((512, 512)))
    put("many/one_near.png", encoded(np.concatenate([double, np.pad(PORTRAIT, ((0, 256), (0, 0), (0, 0)))], axis=1), "PNG"), "face")
    for width, height in ((1, 1), (2, 2), (1, 40), (40, 1), (3, 9), (8, 8), (2, 3000), (3000, 2), (12_000, 3)):
        put(f"tiny/{width}x{height}.png", encoded(np.full((height, width, 3), 90, np.uint8), "PNG"), "reject")

    names = [
        "with space.jpg", "quote'\".jpg", "comma,semi;.jpg", "new\nline.jpg", "tab\t.jpg", "ünïcödé.jpg", "脸.jpg", "😀.jpg", "-dash.jpg",
        "=1+1.jpg", "$HOME.jpg", "~.jpg", "a.jpg.png", "nul\x7f.jpg", "tr\u0131k.jpg", "[1].jpg", "@.jpg", "back\\slash.jpg", ".hidden.jpg",
        "..jpg", "%s%n.jpg", "a" * 240 + ".jpg", "con.jpg", "e\u0301.jpg", "\u202egnp.jpg", "#1.jpg", "*?.jpg", b"broken\xff\xfe.jpg",
        b"latin\xe9.jpg",
    ]  # fmt: skip
    for name in names:
        put(b"name_" + name if isinstance(name, bytes) else f"name/{name}", jpeg, "face")

    put("folder.jpg/inside.jpg", jpeg, "face")
    os.symlink(folder, folder / "loop")
    os.symlink("itself.jpg", folder / "itself.jpg")
    os.symlink("nowhere.jpg", folder / "dangling.jpg")
    os.symlink("mode/UPPER.JPG", folder / "link.jpg")
    os.mkfifo(folder / "pipe.jpg")
    expected |= {"loop": "reject", "itself.jpg": "reject", "dangling.jpg": "reject", "link.jpg": "face", "pipe.jpg": "reject"}
    put("forbidden.jpg", jpeg, "face" if os.geteuid() == 0 else "reject")
    os.chmod(folder / "forbidden.jpg", 0)

    clip = video_bytes(PORTRAIT, scratch)
    put("video/good.mp4", clip, "face")
    put("video/half.mp4", clip[: len(clip) // 2], "reject")
    put("video/header.mp4", clip[:40], "reject")
    spoiled = bytearray(clip)
    for at in rng.integers(100, len(spoiled), 60):
        spoiled[at] = rng.integers(256)
    put("video/spoiled.mp4", bytes(spoiled), "either")
    put("video/picture.mp4", jpeg, "either")
    put("video/noise.avi", rng.bytes(50_000), "reject")
    put("video/clip_named.jpg", clip, "reject")
    return expected


@needs_dlib
def test_two_hundred_hostile_inputs_each_end_in_a_table(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    expected = hostile(source, tmp_path)
    assert len(expected) == 200
    done = prepare_folder(source, out, size=64, detector="dlib", progress=False)
    faces, rejects = table(out / "metadata.csv"), table(out / "rejects.csv")
    assert (done.faces, done.rejects) == (len(faces), len(rejects))
    found, refused = {row["source"] for row in faces}, {row["file"]: row["reason"] for row in rejects}
    assert found | set(refused) == set(expected)
    wrong = {name: refused.get(name, "a face") for name, outcome in expected.items()
             if (outcome == "face" and name in refused) or (outcome == "reject" and name not in refused)}  # fmt: skip
    assert not wrong
    twice = Counter((row["source"], row["frame"]) for row in faces) + Counter((row["file"], row["frame"]) for row in rejects)
    assert max(twice.values()) == 1
    assert all(reason and "\n" not in reason and "Traceback" not in reason for reason in refused.values())
    assert all("megapixels" in refused[f"bomb/{name}"] for name in ("barely.png", "header.bmp", "header.ppm", "real.png"))
    assert "no face found" in refused["none/noise0.png"] and "2 faces" in refused["many/two.png"]
    photos = Photos(out)
    assert len(photos) == len(faces) and torch.isfinite(photos[:].image).all()
    orientations = photos[[i for i, row in enumerate(faces) if row["source"].startswith("exif/") and row["source"][5].isdigit()]]
    assert len(orientations) == 8
    assert (orientations.landmarks - orientations.landmarks[:1]).abs().max() < 2  # all eight are the same upright face
    again = prepare_folder(source, out, size=64, detector="dlib", progress=False)
    assert (again.faces, again.rejects, again.pictures) == (done.faces, done.rejects, 0)


# ---------------------------------------------------------------------------------------------------------- interrupted, resumed


@pytest.fixture
def album(tmp_path):
    source = tmp_path / "in"
    rng = np.random.default_rng(1)
    for i in range(24):
        save(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), source / f"person{i % 4}" / f"{i:02d}_happy.png")
    (source / "person0" / "notes.txt").write_text("no picture")
    return source


def prepared(source, out, **options):
    return prepare_folder(source, out, **({"size": 32, "detector": Pointing(), "progress": False} | options))


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


SLOWLY = """
import sys, time
sys.path.insert(0, {tests!r})
from test_photos import Pointing, prepared
class Slow(Pointing):
    def __call__(self, picture):
        time.sleep(0.05)
        return super().__call__(picture)
prepared({source!r}, {out!r}, detector=Slow())
"""


def test_a_killed_run_goes_on_where_it_stopped(album, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepared(album, whole)
    command = SLOWLY.format(tests=str(os.path.dirname(__file__)), source=str(album), out=str(out))
    for rows in (5, 11):
        process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while not ((out / "metadata.csv").exists() and (out / "metadata.csv").read_bytes().count(b"\n") > rows):
            assert process.poll() is None and time.monotonic() < deadline, process.stdout.read().decode()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = len(table(out / "metadata.csv"))
    assert 11 <= kept < 24
    done = prepared(album, out)
    assert done.pictures <= 24 - kept + 1 and (done.faces, done.rejects) == (24, 1)
    assert contents(out) == contents(whole)


def test_wherever_a_write_is_cut_off_nothing_is_lost_or_doubled(album, tmp_path):
    whole = tmp_path / "whole"
    prepared(album, whole)
    want = contents(whole)
    rows = want["metadata.csv"]
    ends = [i for i, byte in enumerate(rows) if byte == 10]
    for number, cut in enumerate((0, 10, ends[0], ends[0] + 1, ends[3] - 1, ends[3], ends[7] + 200, len(rows) - 1)):
        out = tmp_path / f"cut{number}"
        shutil.copytree(whole, out)
        (out / "metadata.csv").write_bytes(rows[:cut])
        (out / "rejects.csv").write_bytes(want["rejects.csv"][: number * 9])
        (out / "faces" / "left.png.part").write_bytes(b"half a file")
        prepared(album, out)
        assert contents(out) == want


def test_pictures_added_later_are_added_and_a_rejected_one_is_tried_again_when_asked(album, tmp_path):
    out = tmp_path / "out"
    prepared(album, out)
    save(PORTRAIT, album / "person9" / "late.png")
    save(PORTRAIT, album / "person0" / "notes.txt", format="PNG")
    assert prepared(album, out).pictures == 1
    (out / "rejects.csv").unlink()
    done = prepared(album, out)
    assert (done.pictures, done.faces, done.rejects) == (1, 26, 0)


def test_a_full_disk_stops_the_run_and_rejects_nothing(album, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_write_png", full)
        with pytest.raises(OSError, match="No space"):
            prepared(album, tmp_path / "out")
    done = prepared(album, tmp_path / "out")
    assert (done.faces, done.rejects) == (24, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 8}, ShapeError, "size"), ({"every": 0}, ShapeError, "every"), ({"identity": "("}, ShapeError, "regular expression"),
        ({"identity": "abc"}, ShapeError, "group"), ({"size": 64}, AssetError, "other settings"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_named(album, tmp_path, options, error, message):
    prepared(album, tmp_path / "out")
    with pytest.raises(error, match=message):
        prepared(album, tmp_path / "out", **options)


def test_sources_and_folders_that_cannot_be_used_are_named(album, tmp_path):
    with pytest.raises(PictureError, match="does not exist"):
        prepared(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(AssetError, match="both"):
        prepared(album, album)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metadata.csv").write_text("file_name\nx.png\n")
    with pytest.raises(AssetError, match="not prepared by facelab"):
        prepared(album, tmp_path / "other")


def test_a_prepared_folder_inside_its_source_is_not_prepared_again(album):
    prepared(album, album / "prepared")
    assert prepared(album, album / "prepared").pictures == 0


def test_identity_and_expression_come_from_the_path(album, tmp_path):
    save(PORTRAIT, album / "alone_neutral.png")
    prepared(album, tmp_path / "a")
    rows = {row["source"]: row for row in table(tmp_path / "a" / "metadata.csv")}
    assert rows["person2/06_happy.png"]["identity"] == "person2" and rows["person2/06_happy.png"]["expression"] == "smile"
    assert rows["alone_neutral.png"]["identity"] == "alone_neutral" and rows["alone_neutral.png"]["expression"] == "neutral"
    prepared(album, tmp_path / "b", identity=r"(\d\d)_")
    rows = {row["source"]: row for row in table(tmp_path / "b" / "metadata.csv")}
    assert rows["person2/06_happy.png"]["identity"] == "06" and "alone_neutral.png" not in rows
    assert any("identity pattern" in row["reason"] for row in table(tmp_path / "b" / "rejects.csv"))


def test_a_video_is_prepared_frame_by_frame(tmp_path):
    (tmp_path / "anna.mp4").write_bytes(video_bytes(PORTRAIT, tmp_path, frames=7))
    done = prepared(tmp_path / "anna.mp4", tmp_path / "out", every=3)
    rows = table(tmp_path / "out" / "metadata.csv")
    assert done.faces == 3 and [row["frame"] for row in rows] == ["0", "3", "6"]
    assert {row["identity"] for row in rows} == {"anna"}
    assert prepared(tmp_path / "anna.mp4", tmp_path / "out", every=3).pictures == 0


# ------------------------------------------------------------------------------------------------------------ a prepared folder


@pytest.fixture
def folder(album, tmp_path):
    prepared(album, tmp_path / "out")
    return tmp_path / "out"


def test_photos_index_like_a_tensor(folder):
    photos = Photos(folder)
    assert (len(photos), photos.size, photos.people) == (24, 32, ("person0", "person1", "person2", "person3"))
    everything = photos[:]
    assert len(everything) == 24 and everything.image.dtype == torch.float32
    assert (everything.expression == EXPRESSIONS.index("smile")).all() and everything.pose is None
    mask = photos.identity == 2
    for index, want in ((3, [3]), (-1, [23]), (slice(2, 20, 6), [2, 8, 14]), ([5, 1], [5, 1]), ([], []), ((0, 23), [0, 23]),
                        (torch.tensor([7]), [7]), (np.array([4, 4]), [4, 4]), (mask, mask.nonzero()[:, 0].tolist())):  # fmt: skip
        batch = photos[index]
        assert len(batch) == len(want)
        for name in ("image", "landmarks", "identity", "expression"):
            assert torch.equal(getattr(batch, name), getattr(everything, name)[want]), (index, name)
    for index in (24, -25, [24]):
        with pytest.raises(IndexError):
            photos[index]


def test_photos_are_the_files_to_the_grey_level_and_maps_lie_beside(folder):
    photos = Photos(folder)
    for i in (0, 9):
        pixels = np.asarray(Image.open(folder / photos.rows[i]["file_name"]))
        assert np.array_equal(((photos[i].image[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy(), pixels)
        assert np.array_equal(photos.landmarks[i].numpy(), np.float32(json.loads(photos.rows[i]["landmarks"])))
        drawn = np.asarray(Image.open(folder / photos.rows[i]["boundary_file_name"])) / 255
        assert drawn.shape == (32, 32) and np.abs(drawn - boundary_map(photos.landmarks[i], 32)[0, 0].numpy()).max() < 0.01


def test_a_folder_of_others_without_our_columns_is_read(folder, tmp_path):
    rows = table(folder / "metadata.csv")[:2]
    (folder / "metadata.csv").write_text(
        "file_name,landmarks\n" + "".join(f'{row["file_name"]},"{row["landmarks"]}"\n' for row in rows), encoding="utf-8"
    )
    batch = Photos(folder)[:]
    assert len(batch) == 2 and batch.expression is None and batch.identity.tolist() == [0, 1]


@pytest.mark.parametrize("count", [21, 9])
def test_a_folder_of_hands_or_cats_is_read(folder, count):
    points = np.random.default_rng(count).uniform(0, 31, (3, count, 2)).astype(np.float32)
    rows = table(folder / "metadata.csv")[:3]
    (folder / "metadata.csv").write_text("file_name,landmarks\n" + "".join(
        f'{row["file_name"]},"{json.dumps(p.tolist())}"\n' for row, p in zip(rows, points, strict=True)), encoding="utf-8")  # fmt: skip
    photos = Photos(folder)
    assert photos[:].landmarks.shape == (3, count, 2) and np.array_equal(photos[1:].landmarks.numpy(), points[1:])
    assert boundary_map(photos[:].landmarks, 32).shape == (3, 1, 32, 32)


def test_faces_and_hands_do_not_mix(folder):
    text = (folder / "metadata.csv").read_text()
    row = table(folder / "metadata.csv")[5]
    (folder / "metadata.csv").write_text(text.replace(row["landmarks"], json.dumps(json.loads(row["landmarks"])[:21]), 1))
    with pytest.raises(AssetError, match=r"\[21, 68\] landmarks"):
        Photos(folder)


def test_a_folder_can_be_read_in_part(folder):
    everything, some = Photos(folder), Photos(folder, identity="person2", expression="smile")
    want = (everything.identity == 2).nonzero()[:, 0]
    assert len(some) == 6 and some.people == ("person2",) and torch.equal(some[:].image, everything[want].image)
    assert torch.equal(some.landmarks, everything.landmarks[want])
    with pytest.raises(AssetError, match="identity is person0, person1"):
        Photos(folder, identity="nobody")
    with pytest.raises(AssetError, match="split is no column"):
        Photos(folder, split="train")


def test_points_are_framed_by_their_extent():
    source = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    points = np.random.default_rng(1).uniform([100, 50], [190, 110], (21, 2))
    points[:2] = [[95, 50], [195, 110]]
    face = align_points(source, points, 75 * 4 // 3)  # 100 pixels' extent on three quarters of 100: zoom 3/4
    assert face.zoom == pytest.approx(0.75) and face.inside == 1
    np.testing.assert_allclose(face.landmarks, (points - [145, 80]) * 0.75 + 49.5, atol=1e-4)
    for bad in (np.zeros((21, 2)), np.full((21, 2), np.nan), points + 1e6):
        with pytest.raises(ShapeError):
            align_points(source, bad, 64)


def spoil_row(change):
    def spoil(folder):
        lines = (folder / "metadata.csv").read_text().splitlines(keepends=True)
        lines[3] = change(lines[3], lines)
        (folder / "metadata.csv").write_text("".join(lines))

    return spoil


def first_picture(folder):
    return folder / table(folder / "metadata.csv")[0]["file_name"]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: (f / "metadata.csv").unlink(), AssetError, "facelab prepare"),
        (lambda f: (f / "metadata.csv").write_text(""), AssetError, "names no picture"),
        (lambda f: (f / "metadata.csv").write_bytes(b"\xff\xfe\x00" * 50), AssetError, "damaged|no column|names no"),
        (lambda f: (f / "metadata.csv").write_text("file_name,identity\nfaces/a.png,b\n"), AssetError, "no column landmarks"),
        (spoil_row(lambda line, _: line[:80] + "\n"), AssetError, "line|damaged"),
        (spoil_row(lambda line, _: line.replace("[[", "[[x")), AssetError, "line 4: landmarks are no JSON"),
        (spoil_row(lambda line, _: line.replace("[[", "[[1, 2], [")), AssetError, "line 4: landmarks must be 68"),
        (spoil_row(lambda line, _: line.replace("[[", "[[NaN, 1], [", 1).replace("], [", "", 1)), AssetError, "line 4: landmarks"),
        (spoil_row(lambda line, _: "../../" + line), AssetError, "outside the folder"),
        (spoil_row(lambda _, lines: lines[2]), AssetError, "second time"),
        (lambda f: first_picture(f).unlink(), AssetError, "is missing"),
        (lambda f: first_picture(f).write_bytes(first_picture(f).read_bytes()[:200]), PictureError, "cannot be read"),
        (lambda f: first_picture(f).write_text("no picture"), PictureError, "not a picture"),
        (lambda f: save(np.zeros((32, 30, 3), np.uint8), first_picture(f)), PictureError, "30x32"),
    ],
)
def test_every_damage_to_a_folder_is_named(folder, spoil, error, message):
    spoil(folder)
    with pytest.raises(error, match=message):
        Photos(folder)


def test_a_picture_that_changes_or_goes_later_is_named(folder):
    photos = Photos(folder)
    save(np.zeros((64, 64, 3), np.uint8), folder / photos.rows[5]["file_name"])
    with pytest.raises(PictureError, match="64x64, not 32x32"):
        photos[5]
    (folder / photos.rows[5]["file_name"]).unlink()
    with pytest.raises(AssetError, match="is gone"):
        photos[:]
    assert len(photos[:5]) == 5


def test_nothing_is_decoded_before_its_size_is_known(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(png_claiming(9_000, 9_000))
    monkeypatch.setattr(read, "_rgb", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="9000x9000 pixels are more than the 64 megapixels"):
        read_picture(tmp_path / "bomb.png")


@needs_dlib
def test_london_photographs_and_a_grid_clip(tmp_path):
    if not (assets_folder() / "london_set").exists():
        pytest.skip(f"{assets_folder() / 'london_set'} is absent")
    for name in ("neutral_front/001_03.jpg", "neutral_front/002_03.jpg", "smiling_front/001_08.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(assets_folder() / "london_set" / name, tmp_path / "in" / name)
    prepare_folder(tmp_path / "in", tmp_path / "london", size=128, detector="dlib", identity=r"/(\d+)_", progress=False)
    photos = Photos(tmp_path / "london")
    assert photos.people == ("001", "002") and photos.identity.tolist() == [0, 1, 0]
    assert [EXPRESSIONS[i] for i in photos.expression] == ["neutral", "neutral", "smile"]
    assert (photos.landmarks[:, [0, 16], 0].mean(1) - 63.5).abs().max() < 0.5
    clip = assets_folder() / "grid_video" / "bbaf2n.mpg"
    done = prepare_folder(clip, tmp_path / "grid", size=64, detector="dlib", every=25, progress=False)
    assert done.faces == 3 and done.rejects == 0
    assert np.ptp(Photos(tmp_path / "grid").landmarks[:, 27].numpy(), axis=0).max() < 2  # the frames of a clip line up
