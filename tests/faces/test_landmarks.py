"""Landmark detectors: agreement with other people's points, equivariance, which detector is chosen and why, and bad inputs."""
import importlib.util
import io
import shutil
import time
import urllib.request

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from facelab.core import AssetError, LandmarkError, ShapeError, assets_folder
from facelab.faces import landmarks as rooms
from facelab.faces.landmarks import DlibDetector, FaceAlignmentDetector, find_face, find_landmarks, open_detector

needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")


def eye_distance(points):
    return np.linalg.norm(points[..., 36:42, :].mean(-2) - points[..., 42:48, :].mean(-2), axis=-1)


def mean_error(found, wanted):
    """In inter-ocular distances of ``wanted``."""
    return float((np.linalg.norm(found - wanted, axis=-1).mean(-1) / eye_distance(wanted)).mean())


@pytest.fixture(scope="module")
def portrait():
    return skimage.data.astronaut()[:256, 96:352]


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No weights on disk, and no site to fetch them from."""

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    open_detector.cache_clear()
    yield tmp_path
    open_detector.cache_clear()


@needs_dlib
def test_the_parts_of_a_face_are_where_they_belong(portrait):
    face = find_face(portrait, "dlib")
    points = face.landmarks
    assert points.shape == (68, 2) and points.dtype == np.float32 and face.score > 0
    left, top, right, bottom = face.box
    assert left < points[33, 0] < right and top < points[33, 1] < bottom and face.width == right - left
    assert (np.diff(points[:17, 0]) > 0).all()  # the jaw, from the picture's left to its right
    assert points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]
    assert points[19, 1] < points[37, 1] < points[30, 1] < points[51, 1] < points[57, 1] < points[8, 1]


@needs_dlib
def test_landmarks_follow_a_shift_a_mirror_and_a_change_of_scale(portrait):
    points = find_face(portrait, "dlib").landmarks
    shifted = find_face(skimage.data.astronaut()[:261, 89:359], "dlib").landmarks
    assert mean_error(shifted - [7, 0], points) < 0.03
    mirrored = find_face(np.ascontiguousarray(portrait[:, ::-1]), "dlib").landmarks * [-1, 1] + [255, 0]
    pairs = [(36, 45), (39, 42), (48, 54), (31, 35), (33, 33), (8, 8), (17, 26)]
    for a, b in pairs:
        assert np.linalg.norm(mirrored[a] - points[b]) < 0.06 * eye_distance(points)
    for size in (128, 512):  # half and twice; the close-up keeps small faces from being rounded to whole pixels
        scaled = np.asarray(Image.fromarray(portrait).resize((size, size), Image.Resampling.LANCZOS))
        found = (find_face(scaled, "dlib").landmarks + 0.5) * (256 / size) - 0.5
        assert mean_error(found, points) < 0.03


@needs_dlib
def test_grey_pictures_and_the_names_of_detectors_are_accepted(portrait):
    grey = portrait.mean(2).astype(np.uint8)
    assert mean_error(find_face(grey, DlibDetector()).landmarks, find_face(portrait, "dlib").landmarks) < 0.03


@needs_dlib
def test_the_cnn_finds_what_hog_does_not(portrait, monkeypatch):
    detector = DlibDetector()

    class Blind:
        def run(self, *_):
            return [], [], []

    want = detector(portrait)[0][0].landmarks
    monkeypatch.setattr(detector, "_hog", Blind())
    faces, _ = detector(portrait)
    assert len(faces) == 1 and mean_error(faces[0].landmarks, want) < 0.05


@needs_dlib
def test_london_photographs_agree_with_hand_placed_and_machine_points():
    folder = assets_folder() / "london_set"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    machine, hand = np.load(folder / "machine_landmarks68_512.npz"), np.load(folder / "webmorph189_neutral_512.npz")
    detector = DlibDetector()
    chosen = range(0, 68, 8)
    found = np.stack([
        find_face(np.asarray(Image.open(folder / f"neutral_front/{machine['ids'][i]}_03.jpg")), detector).landmarks for i in chosen
    ])
    assert mean_error(found, machine["landmarks68_neutral"][list(chosen)]) < 0.02
    placed = np.stack([hand[f"neutral_front/{machine['ids'][i]}_03"] for i in chosen])
    # points that both schemes place: corners of the eyes and mouth, middles of the upper and lower lip
    ours, theirs = [36, 39, 42, 45, 48, 54, 51, 57], [18, 22, 23, 27, 87, 93, 90, 106]
    error = np.linalg.norm(found[:, ours] - placed[:, theirs], axis=-1) / eye_distance(found)[:, None]
    assert np.median(error) < 0.04


@needs_dlib
def test_no_face_and_several_faces_are_named(portrait):
    detector = DlibDetector()
    with pytest.raises(LandmarkError, match=r"no face found in IMG\.jpg \(detector dlib, best score -?\d"):
        find_face(np.full((64, 64, 3), 128, np.uint8), detector, name="IMG.jpg")
    twins = np.concatenate([portrait, portrait], axis=1)
    assert len(find_landmarks(twins, detector)) == 2
    with pytest.raises(LandmarkError, match="2 faces of about the same size"):
        find_face(twins, detector)
    small = np.asarray(Image.fromarray(portrait).resize((256, 256)))
    large = np.asarray(Image.fromarray(portrait).resize((512, 512)))
    uneven = np.concatenate([large, np.pad(small, ((0, 256), (0, 0), (0, 0)))], axis=1)
    faces = find_landmarks(uneven, detector)
    assert len(faces) == 2 and faces[0].width > 1.5 * faces[1].width
    assert find_face(uneven, detector).box == faces[0].box


@needs_dlib
def test_a_faint_second_finding_is_no_rival():
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG", quality=75)
    picture = np.asarray(Image.open(buffer))
    faces = find_landmarks(picture, "dlib")
    assert len(faces) == 2 and faces[0].score < 0.2 < faces[1].score, "the suit's, larger, and the astronaut's"
    assert find_face(picture, "dlib").box == faces[1].box


@needs_dlib
def test_a_box_says_which_face_is_meant(portrait):
    detector = DlibDetector()
    twins, alone = np.concatenate([portrait, portrait], axis=1), find_face(portrait, detector)
    for shift in (0, 256):
        box = tuple(edge + offset for edge, offset in zip(alone.box, (shift + 9, -7, shift - 4, 12), strict=True))  # not quite that of dlib
        found = find_face(twins, detector, box=box)
        assert mean_error(found.landmarks - [shift, 0], alone.landmarks) < 0.03
        assert np.abs(np.array(found.box) - [shift, 0, shift, 0] - alone.box).max() < 0.15 * alone.width
    grey = np.asarray(Image.fromarray(twins).convert("L"))
    assert find_face(grey, detector, box=box).box[0] > 256
    tiny = np.asarray(Image.fromarray(twins).resize((128, 64), Image.Resampling.LANCZOS))
    assert find_face(tiny, detector, box=tuple(edge / 4 for edge in box)).box[0] > 64, "one of 25 pixels, seen close up"
    for beside in ((0, 200, 40, 256), (9000, 9000, 9040, 9090)):
        with pytest.raises(LandmarkError, match=r"no face found in the box .* of IMG\.jpg \(detector dlib, best score"):
            find_face(twins, detector, name="IMG.jpg", box=beside)


def test_a_close_up_of_a_box_is_bounded_and_wrong_boxes_are_named(portrait):
    class Looks:
        name, reason, sides = "none", "", []

        def __call__(self, picture):
            self.sides.append(max(picture.shape))
            return [], 0.0

    detector = Looks()
    for box in ((100, 5, 101, 250), (0, 0, 256, 256), (7, 7, 7.01, 7.01), (-500, -500, 900, 900), (9000, 0, 9001, 1)):
        with pytest.raises(LandmarkError, match="no face found in the box"):
            find_face(portrait, detector, box=box)
    assert len(detector.sides) == 5 and max(detector.sides) < 2000
    for wrong in ((5, 5, 5, 9), (9, 5, 5, 9), (0, 0, float("nan"), 5), (0, 0, float("inf"), 5)):
        with pytest.raises(ShapeError, match="left, top, right, bottom"):
            find_face(portrait, detector, box=wrong)


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8, 4), "uint8"), ((8, 8, 3), "float32"), ((0, 8, 3), "uint8"), ((8,), "uint8")])
def test_what_is_no_picture_is_named(shape, dtype):
    with pytest.raises(ShapeError, match="uint8"):
        find_landmarks(np.zeros(shape, dtype), detector=lambda _: ([], 0.0))


def test_an_unknown_detector_is_named():
    with pytest.raises(ShapeError, match="'auto', 'face-alignment' or 'dlib'"):
        open_detector("haar")


@needs_dlib
def test_without_network_dlib_is_used_and_says_why(no_network):
    detector = open_detector("auto")
    assert detector.name == "dlib"
    assert "2DFAN4" in detector.reason and "no route to host" in detector.reason
    with pytest.raises(AssetError, match=r"2DFAN4.*cannot be reached"):
        open_detector("face-alignment")


def test_without_any_detector_both_ways_out_are_named(no_network, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "dlib" else find_spec(name, *a))
    with pytest.raises(AssetError, match=r"2DFAN4.*facelab\[offline\]"):
        open_detector("auto")


def test_a_site_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: time.sleep(30))
    started = time.perf_counter()
    assert "does not answer" in rooms._unreachable("https://example.org/weights.pth", seconds=0.2)
    assert time.perf_counter() - started < 5


@pytest.fixture
def fan_folder(no_network):
    """A torch.hub folder with BlazeFace's weights, where FAN's may be put."""
    source = assets_folder() / "weights" / "blazeface"
    if not source.exists():
        pytest.skip(f"{source} is absent")
    folder = no_network / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copy(file, folder)
    return folder


def test_face_alignment_is_loaded_and_called_offline(fan_folder, portrait):
    """The real loading code with an untrained FAN: faces come from the trained BlazeFace, landmarks are finite but mean nothing."""
    from face_alignment.models import FAN

    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), fan_folder / "2DFAN4-11f355bf06.pth.tar")
    detector = open_detector("auto", device="cpu")
    assert isinstance(detector, FaceAlignmentDetector) and detector.name == "face-alignment (blazeface)"
    picture = skimage.data.astronaut()[:400, 56:456]
    face = find_face(picture, detector)
    assert face.landmarks.shape == (68, 2) and np.isfinite(face.landmarks).all() and 0.5 < face.score <= 1
    want = find_face(picture, "dlib").landmarks if importlib.util.find_spec("dlib") else None
    if want is not None:
        left, top, right, bottom = face.box
        assert left < want[30, 0] < right and top < want[30, 1] < bottom


def test_damaged_weights_are_named(fan_folder):
    (fan_folder / "2DFAN4-11f355bf06.pth.tar").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(AssetError, match="cannot be used .* delete them"):
        FaceAlignmentDetector(device="cpu")
