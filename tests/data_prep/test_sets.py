"""Each public set's script on a tiny made tree of the same layout: who, which expression, which split, which pose come out."""
import base64
import csv
import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from facelab.core import PACKAGE, AssetError, ShapeError
from facelab.faces import EXPRESSIONS, FaceWorld, HandWorld, Photos
from facelab.faces.landmarks import find_landmarks
from facelab.faces.photos import held_out, prepare_picture, read_picture
from facelab.geometry import boundary_map

SCRIPTS = PACKAGE.parent / "data_prep"
needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="needs the [offline] extra")


def script(name):
    spec = importlib.util.spec_from_file_location(f"data_prep_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(path, quality=95)


def rows(out, key="source"):
    with open(out / "metadata.csv", newline="", encoding="utf-8") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def rejects(out):
    with open(out / "rejects.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def faces():
    return FaceWorld(3).sample(6, size=160, yaw=(-10, 10), pitch=(-5, 5), roll=(-3, 3)).image


def celeba(root, faces, folders=("", "", "")):
    images, notes, parts = (root / folder for folder in folders)
    for path in (images, notes, parts):
        path.mkdir(parents=True, exist_ok=True)
    for i, face in enumerate(faces[:4], start=1):
        save(face, images / "img_align_celeba" / f"{i:06d}.jpg")
    names = [f"{i:06d}.jpg" for i in range(1, 6)]
    (notes / "identity_CelebA.txt").write_text("".join(f"{name} {who}\n" for name, who in zip(names, (7, 12, 7, 12, 90), strict=True)))
    flags = ("1 -1", "-1 1", "-1 -1", "1 1", "1 1")
    lines = [f"{name}  {flag}\n" for name, flag in zip(names, flags, strict=True)]
    (notes / "list_attr_celeba.txt").write_text("5\nSmiling Male \n" + "".join(lines))
    (parts / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in zip(names, (0, 2, 0, 2, 1), strict=True)))


@needs_dlib
@pytest.mark.parametrize("folders", [("", "", ""), ("Img", "Anno", "Eval")])
def test_celeba(tmp_path, faces, folders):
    celeba(tmp_path / "in", faces, folders)
    assert script("celeba").main([str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib"]) == 0
    found = rows(tmp_path / "out")
    assert [row["identity"] for row in found.values()] == ["7", "12", "7", "12"]
    assert [row["split"] for row in found.values()] == ["train", "test", "train", "test"]
    assert [row["expression"] for row in found.values()] == ["smile", "", "", "smile"]
    assert [row["Male"] for row in found.values()] == ["-1", "1", "-1", "1"]
    assert rejects(tmp_path / "out") == {"000005.jpg": "listed, but there is no such picture"}
    test = Photos(tmp_path / "out", split="test")
    assert len(test) == 2 and test.people == ("12",) and test[:].landmarks.shape == (2, 68, 2)


@needs_dlib
def test_rafd(tmp_path, faces, capsys):
    names = ("Rafd090_01_Caucasian_female_happy_frontal.jpg", "Rafd090_01_Caucasian_female_angry_left.jpg",
             "Rafd045_33_Moroccan_male_contemptuous_right.jpg", "Rafd135_61_Kid_male_fearful_frontal.jpg")  # fmt: skip
    for name, face in zip(names, faces, strict=False):
        save(face, tmp_path / "in" / "some" / name)
    (tmp_path / "in" / "readme.txt").write_text("Rafd")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib", "--test", "0.34"]
    assert script("rafd").main(call) == 0
    found = {key.rpartition("/")[2]: row for key, row in rows(tmp_path / "out").items()}
    assert [found[name]["identity"] for name in names] == ["01", "01", "33", "61"]
    assert [found[name]["expression"] for name in names] == ["smile", "anger", "", "fear"]
    assert [found[name]["yaw"] for name in names] == ["0", "0", "45", "-45"]
    assert [(found[name]["gaze"], found[name]["sex"]) for name in names[1:3]] == [("left", "female"), ("right", "male")]
    assert [found[name]["split"] for name in names] == ["train", "train", "test", "train"]
    assert len(Photos(tmp_path / "out", yaw="0")) == 2
    assert script("rafd").main(call) == 0 and "0 pictures in" in capsys.readouterr().out.splitlines()[-1]
    assert script("rafd").main([*call, "--cameras", "090"]) == 2 and "other settings" in capsys.readouterr().err


@needs_dlib
@pytest.mark.parametrize("top", ["", "data"])
def test_multipie(tmp_path, faces, top):
    shots = {"session01/multiview/001/01/05_1/001_01_01_051_06.png": ("001", "neutral", "05_1", "06", "0"),
             "session01/multiview/001/02/05_1/001_01_02_051_06.png": ("001", "smile", "05_1", "06", "0"),
             "session02/multiview/002/03/05_1/002_02_03_051_06.png": ("002", "squint", "05_1", "06", "0"),
             "session04/multiview/004/03/14_0/004_04_03_140_06.png": ("004", "scream", "14_0", "06", "-15"),
             "session03/multiview/004/03/05_1/004_03_03_051_07.png": ("004", "disgust", "05_1", "07", "0")}  # fmt: skip
    for name, face in zip(shots, faces, strict=False):
        save(face, tmp_path / "in" / top / name)

    def run(out, *options):
        assert script("multipie").main([str(tmp_path / "in"), str(tmp_path / out), "--size", "64", "--detector", "dlib", *options]) == 0
        return {key.removeprefix("data/"): row for key, row in rows(tmp_path / out).items()}

    assert set(run("fvae")) == set(list(shots)[:3])  # camera 05_1, light 06
    found = run("all", "--cameras", "all", "--lights", "all", "--test", "0.33")
    assert {key: tuple(row[c] for c in ("identity", "expression", "camera", "light", "yaw")) for key, row in found.items()} == shots
    assert {row["identity"] for row in found.values() if row["split"] == "test"} == {"002"}


def test_multipies_cameras():
    yaw = script("multipie").YAW
    assert len(yaw) == 15 and yaw["11_0"] == -90 and yaw["05_1"] == 0 and yaw["24_0"] == 90 and yaw["19_0"] == yaw["19_1"] == 45


@needs_dlib
@pytest.mark.parametrize("tab", [False, True])
def test_emotionet(tmp_path, faces, tab):
    for i, face in enumerate(faces[:4]):
        save(face, tmp_path / "in" / "pictures" / f"N_{i}.jpg")
    lines = ["URL, orig_url, 'AU 1', 'AU 2', 'AU 12', 'AU 25', 'AU 26'", "'http://a.b/c/N_0.jpg', x, 0, 0, 1, 1, 999",
             "http://a.b/c/N_1.jpg?size=2, x, 1, 1, 0, 1, 1", "http://a.b/N_2.jpg, x, 0, 0, 0, 0, 0",
             "http://a.b/N_3.jpg, x, 999, 0, 0, 0, 0", "http://a.b/N_4.jpg, x, 0, 0, 0, 0, 0"]  # fmt: skip
    (tmp_path / "in" / "aus.csv").write_text("\n".join(line.replace(", ", "\t") if tab else line for line in lines))
    assert script("emotionet").main([str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib"]) == 0
    found = rows(tmp_path / "out")
    assert {key: (row["expression"], row["action_units"]) for key, row in found.items()} == {
        "N_0.jpg": ("smile", "12 25"), "N_1.jpg": ("surprise", "1 2 25 26"), "N_2.jpg": ("neutral", ""), "N_3.jpg": ("", "")}  # fmt: skip
    assert [row["identity"] for row in found.values()] == ["N_0", "N_1", "N_2", "N_3"]
    assert rejects(tmp_path / "out") == {"N_4.jpg": "listed, but not downloaded"}


def test_emotionets_prototypes():
    expression = script("emotionet").expression
    assert expression({4, 7, 24}, set(), set()) == "anger" and expression({1, 4, 20, 25}, set(), set()) == "fear"
    assert expression({4, 15, 12, 25}, set(), set()) == ""  # as sad as it is happy
    assert expression({4, 15, 1, 20, 25}, set(), set()) == "fear"  # the larger one
    assert expression({26}, set(), set()) == "" and expression(set(), {1, 2}, {1, 2}) == "neutral"
    assert {*script("emotionet").PROTOTYPES, "neutral"} <= set(EXPRESSIONS)


def at(image, points):
    """Colours (21,3) about points, three pixels square."""
    x, y = points.round().long().clamp(0, image.shape[-1] - 1).unbind(-1)
    return torch.nn.functional.avg_pool2d(image[None], 3, 1, 1)[0, :, y, x].T


def test_hands(tmp_path):
    hands = HandWorld(3).sample(3, size=120)
    for i, part in enumerate(("manual_train", "manual_train", "manual_test")):
        save(hands.image[i], tmp_path / "in" / part / f"{i}.jpg")
        points = [[*p, 1] for p in hands.landmarks[i].tolist()]
        (tmp_path / "in" / part / f"{i}.json").write_text(json.dumps({"hand_pts": points, "is_left": i % 2, "hand_box_center": [1, 2]}))
    for name, text in {"short": '{"hand_pts": [[1, 2, 1]]}', "other": "[1, 2]", "broken": '{"hand_pts": [[1'}.items():
        save(hands.image[0], tmp_path / "in" / "manual_train" / f"{name}.jpg")
        (tmp_path / "in" / "manual_train" / f"{name}.json").write_text(text)
    assert script("hands").main([str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64"]) == 0
    found = rows(tmp_path / "out")
    assert {key: (row["split"], row["side"]) for key, row in found.items()} == {
        "manual_test/2.jpg": ("test", "right"), "manual_train/0.jpg": ("train", "right"),
        "manual_train/1.jpg": ("train", "left")}  # fmt: skip
    refused = rejects(tmp_path / "out")
    assert len(refused) == 3 and "21 finite points" in refused["manual_train/short.jpg"]
    photos = Photos(tmp_path / "out")
    assert photos.landmarks.shape == (3, 21, 2) and len(photos.people) == 3 and photos.expression is None
    span = photos.landmarks.amax(1) - photos.landmarks.amin(1)
    assert torch.allclose(span.amax(1), torch.tensor(48.0), atol=0.01)  # three quarters of the side
    centre = (photos.landmarks.amax(1) + photos.landmarks.amin(1)) / 2
    assert torch.allclose(centre, torch.tensor(31.5), atol=0.01)
    assert (boundary_map(photos[:].landmarks, 64).amax((1, 2, 3)) > 0.9).all()
    for row, batch in zip(photos.rows, map(photos.__getitem__, range(3)), strict=True):  # the joints still lie on what they lay on
        i = int(row["source"][-5])
        theirs, ours = (at(image, marks) for image, marks in ((hands.image[i], hands.landmarks[i]), (batch.image[0], batch.landmarks[0])))
        moved = at(batch.image[0], batch.landmarks[0] + 6)
        assert (theirs - ours).abs().mean() < 0.06 and (theirs - ours).abs().mean() < 0.5 * (theirs - moved).abs().mean()


def test_cats(tmp_path):
    rng = np.random.default_rng(0)
    points = {}
    for i in range(10):
        name = f"CAT_0{i % 2}/{i:08d}_000.jpg"
        save(torch.from_numpy(rng.uniform(-1, 1, (3, 90, 120)).astype(np.float32)), tmp_path / "in" / name)
        points[name] = rng.integers(20, 80, (9, 2))
        (tmp_path / "in" / f"{name}.cat").write_text("9 " + " ".join(map(str, points[name].ravel())) + " ")
    (tmp_path / "in" / "CAT_00" / "bad.jpg.cat").write_text("9 1 2 3")
    (tmp_path / "in" / "CAT_00" / "gone.jpg.cat").write_text("9 " + "1 2 " * 9)
    assert script("cats").main([str(tmp_path / "in"), str(tmp_path / "out"), "--size", "48"]) == 0
    found = rows(tmp_path / "out")
    assert set(found) == set(points) and set(rejects(tmp_path / "out")) == {"CAT_00/bad.jpg", "CAT_00/gone.jpg"}
    assert 2 <= sum(row["split"] == "test" for row in found.values()) <= 4
    photos = Photos(tmp_path / "out")
    assert photos[:].landmarks.shape == (10, 9, 2)
    for row, marks in zip(photos.rows, photos.landmarks.numpy(), strict=True):  # shifted and scaled, not turned
        source = points[row["source"]]
        scale = np.ptp(marks, axis=0).max() / np.ptp(source, axis=0).max()
        np.testing.assert_allclose(marks - marks[0], (source - source[0]) * scale, atol=0.01)


def points_file(path, marks):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in marks.tolist())
    path.write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")


def film(path, images):
    """A lossless video of made faces."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width = stream.height = images.shape[-1]
        stream.pix_fmt = "bgr0"
        for image in images:
            pixels = ((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def test_300vw(tmp_path, capsys):
    clips = [FaceWorld(3).clip(person, 5, 96) for person in (0, 1, 2)]
    for name, clip in zip(("001", "007", "562"), clips, strict=True):
        film(tmp_path / "in" / name / "vid.avi", clip.image)
        for frame, marks in enumerate(clip.landmarks, start=1):
            points_file(tmp_path / "in" / name / "annot" / f"{frame:06d}.pts", marks)
    (tmp_path / "in" / "007" / "annot" / "000003.pts").write_text("version: 1\n{ 1 2 3 }")
    (tmp_path / "in" / "562" / "annot" / "000003.pts").unlink()
    film(tmp_path / "in" / "900" / "vid.avi", clips[0].image)
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--every", "2", "--test", "0.34"]
    assert script("300vw").main(call) == 0
    with open(tmp_path / "out" / "metadata.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["identity"], row["frame"]) for row in found] == [
        ("001", "0"), ("001", "2"), ("001", "4"), ("007", "0"), ("007", "4"), ("562", "0"), ("562", "4")]  # fmt: skip
    assert {row["identity"] for row in found if row["split"] == "test"} == {"562"} and {row["detector"] for row in found} == {"annotation"}
    said = rejects(tmp_path / "out")
    assert "68 points" in said["007/vid.avi"] and "no landmarks for this frame" in said["562/vid.avi"] and "annot" in said["900/vid.avi"]
    photos = Photos(tmp_path / "out")
    assert photos.clip.tolist() == [0, 0, 0, 1, 1, 2, 2] and photos[:2].clip.tolist() == [0, 0]
    upright = photos.landmarks[:, 36:42].mean(dim=1) - photos.landmarks[:, 42:48].mean(dim=1)
    assert (upright[:, 1].abs() < 0.05 * upright[:, 0].abs()).all(), "framed as faces are"
    assert script("300vw").main([*call[:1], str(tmp_path / "few"), "--videos", "001", "999"]) == 2
    assert "no video 999" in capsys.readouterr().err


@pytest.mark.parametrize("turned", [False, True], ids=["300W-3D", "300W-LP"])
def test_300w_lp(tmp_path, turned):
    from scipy.io import savemat

    batch = FaceWorld(3).sample(6, size=96, yaw=(-20, 20))
    stems = ["AFW/AFW_134212_1", "AFW/AFW_134212_2", "HELEN/HELEN_232194_1", "LFPW/LFPW_image_test_0001", "AFW_Flip/AFW_134212_1"]
    if turned:
        stems = [f"{stem}_0" for stem in stems]
        stems[1] = "AFW/AFW_134212_1_3"
    for i, stem in enumerate(stems):
        save(batch.image[i], tmp_path / "in" / f"{stem}.jpg")
        pose = np.array([[batch.pose[i, 1], batch.pose[i, 0], batch.pose[i, 2], 1.0, 2.0, 0.0, 1e-3]])
        savemat(tmp_path / "in" / f"{stem}.mat", {"pt2d": batch.landmarks[i].T.numpy() + 1.0, "Pose_Para": pose})
    (tmp_path / "in" / "AFW" / "AFW_9_1.mat").write_bytes(b"no")
    assert script("300w_lp").main([str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64"]) == 0
    found = rows(tmp_path / "out")
    people = ["AFW_134212_1", "AFW_134212_1" if turned else "AFW_134212_2", "HELEN_232194_1", "LFPW_image_test_0001"]
    assert [row["identity"] for row in found.values()] == people
    assert [float(row["yaw"]) for row in found.values()] == pytest.approx(batch.pose[:4, 0].rad2deg().tolist(), abs=0.01)
    assert [row["set"] for row in found.values()] == ["AFW", "AFW", "HELEN", "LFPW"] and len(rejects(tmp_path / "out")) == 1
    assert script("300w_lp").main([str(tmp_path / "in"), str(tmp_path / "flips"), "--size", "64", "--flips"]) == 0
    mirrored = rows(tmp_path / "flips")[f"{stems[4]}.jpg"]["identity"]
    assert mirrored == "AFW_134212_1_Flip", "no clip of pictures and mirror images"
    assert len(rows(tmp_path / "flips")) == 5 and Photos(tmp_path / "flips")[:].landmarks.shape == (5, 68, 2)


@needs_dlib
def test_voxceleb2(tmp_path):
    clip = FaceWorld(3).clip(0, 3, 160).image
    names = [f"dev/mp4/id0001{person}/video{video}/{number:05d}.mkv" for person in range(3) for video in range(2) for number in (1, 2)]
    for name in [*names, "test/mp4/id00017/video0/00001.mkv"]:
        film(tmp_path / "in" / name, clip)
        (tmp_path / "in" / name).rename((tmp_path / "in" / name).with_suffix(".mp4"))
    (tmp_path / "in" / "test" / "mp4" / "id00017" / "video1").mkdir()
    options = ["--size", "64", "--every", "2", "--videos", "1", "--tested", "2", "--detector", "dlib"]
    assert script("voxceleb2").main([str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 0
    with open(tmp_path / "out" / "metadata.csv", newline="", encoding="utf-8") as file:
        found = [(row["identity"], row["split"], row["video"], row["frame"]) for row in csv.DictReader(file)]
    assert found == [(who, split, "video0", frame) for who, split in (
        ("id00010", "train"), ("id00011", "train"), ("id00017", "test"), ("id00012", "test")) for frame in ("0", "2")]  # fmt: skip
    listed = list(script("voxceleb2").shots(tmp_path / "in", 1, 1, 9))
    assert [(s.identity, s.notes["split"]) for s in listed] == [("id00010", "train")] * 2 + [("id00017", "test")] * 2
    assert listed[-1].trouble and not listed[0].trouble


@needs_dlib
@pytest.mark.parametrize("top", ["", "CASIA-WebFace"])
def test_casia_webface(tmp_path, faces, capsys, top):
    root = tmp_path / "in" / top
    for name, face in zip(("0000045/001.jpg", "0000045/002.jpg", "0000099/001.jpg", "0000100/001.jpg"), faces, strict=False):
        save(face, root / name)
    (root / "0000045" / "003.jpg").write_bytes(b"no picture")
    (root / "0000102").mkdir()
    (root / "names.txt").write_text("0000045 Somebody\n")
    leave_out = tmp_path / "both.txt"
    leave_out.write_text("0000099 who is in both\n\n")
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib", "--leave-out", str(leave_out)]
    assert script("casia_webface").main(call) == 0
    found = rows(tmp_path / "out")
    assert {key: (row["identity"], row["split"]) for key, row in found.items()} == {
        "0000045/001.jpg": ("0000045", "train"), "0000045/002.jpg": ("0000045", "train"),
        "0000100/001.jpg": ("0000100", "train")}  # fmt: skip
    said = rejects(tmp_path / "out")
    assert set(said) == {"0000045/003.jpg", "0000102"} and "without a picture" in said["0000102"]
    assert {shot.identity for shot in script("casia_webface").shots(tmp_path / "in", None, 0.25) if shot.notes["split"] == "test"}
    for text, why in (("0000099\n99\n", "names people whom"), (None, "does not exist")):
        leave_out.unlink() if text is None else leave_out.write_text(text)
        assert script("casia_webface").main([*call[:1], str(tmp_path / "other"), *call[2:]]) == 2
        assert why in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_casias_packed_form_is_named(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(AssetError, match=r"holds no 0000045/001\.jpg but train\.rec"):
        list(script("casia_webface").shots(tmp_path, None, 0))


def large(images):
    """At LFW's size."""
    return torch.nn.functional.interpolate(images, size=250, mode="bicubic", align_corners=True, antialias=True).clamp(-1, 1)


LFW_PAIRS = "2\t1\nAda_One\t1\t2\nAda_One\t1\tBob_Two\t1\nBob_Two\t1\t2\nAda_One\t2\tCy_Three\t4\n"


@needs_dlib
@pytest.mark.parametrize("home", ["lfw_home/lfw_funneled", "lfw"])
def test_lfw(tmp_path, faces, capsys, monkeypatch, home):
    import sklearn.datasets

    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", None)  # not called unless it is asked for
    faces, pictures = large(faces), tmp_path / "in" / home
    half = torch.nn.functional.interpolate(faces[:2], size=120, mode="area")
    crowd = torch.zeros_like(faces[0])
    crowd[:, 65:185, 65:185], crowd[:, :80, :80] = half[0], half[1, :, 20:100, 20:100]
    for name, face in {"Ada_One_0001": crowd, "Ada_One_0002": faces[2], "Bob_Two_0001": faces[3]}.items():
        save(face, pictures / name[:-5] / f"{name}.jpg")
    (pictures / "Bob_Two" / "Bob_Two_0002.jpg").write_bytes(b"no picture")
    (pictures / "pairs_01.txt").write_text("of another kind")
    (pictures.parent / "pairs.txt").write_text(LFW_PAIRS)
    assert len(find_landmarks(read_picture(pictures / "Ada_One" / "Ada_One_0001.jpg"), "dlib")) == 2, "somebody in the background"
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib"]
    assert script("lfw").main(call) == 0
    found = rows(tmp_path / "out")
    assert {key: row["identity"] for key, row in found.items()} == {
        "Ada_One/Ada_One_0001.jpg": "Ada_One", "Ada_One/Ada_One_0002.jpg": "Ada_One", "Bob_Two/Bob_Two_0001.jpg": "Bob_Two"}  # fmt: skip
    said = rejects(tmp_path / "out")
    assert set(said) == {"Bob_Two/Bob_Two_0002.jpg", "Cy_Three/Cy_Three_0004.jpg"}
    assert "no such picture" in said["Cy_Three/Cy_Three_0004.jpg"]
    first, second, third = (found[key]["file_name"] for key in sorted(found))
    assert (tmp_path / "out" / "pairs.csv").read_text().splitlines() == [
        "fold,first,second,same", f"1,{first},{second},1", f"1,{first},{third},0"]  # fmt: skip
    told = capsys.readouterr().out
    assert "2 of 4 pairs" in told and "fold 2: Bob_Two/Bob_Two_0001.jpg, Bob_Two/Bob_Two_0002.jpg" in told
    photos = Photos(tmp_path / "out")
    assert {photos.folder / row["file_name"] for row in photos.rows} >= {photos.folder / first, photos.folder / third}
    middle, other = (prepare_picture(((face.permute(1, 2, 0) + 1) * 127.5).byte().numpy(), 64, "dlib").image[0] for face in faces[:2])
    crowded = photos[[row["file_name"] for row in photos.rows].index(first)].image[0]
    inner = (slice(None), slice(20, 44), slice(20, 44))  # without what stands about it
    assert (crowded - middle)[inner].abs().mean() < 0.5 * (crowded - other)[inner].abs().mean(), "the face in the middle"


@pytest.mark.parametrize(("text", "why"), [
    (None, "holds no pairs.txt"), ("", "two numbers"), ("10 300 1\n", "two numbers"),
    (LFW_PAIRS.replace("2\t1\n", "3\t1\n", 1), "3 times 1"),
    (LFW_PAIRS.replace("Bob_Two\t1\t2", "Bob_Two\t1"), "no pair of one person"),
    (LFW_PAIRS.replace("Cy_Three\t4", "Cy_Three\tx"), "no pair of two people")])  # fmt: skip
def test_lfws_pairs_are_checked_before_the_work(tmp_path, text, why):
    (tmp_path / "lfw_funneled" / "Ada_One").mkdir(parents=True)
    (tmp_path / "lfw_funneled" / "Ada_One" / "Ada_One_0001.jpg").write_bytes(b"")
    if text is not None:
        (tmp_path / "lfw_funneled" / "pairs.txt").write_text(text)
    with pytest.raises(AssetError, match=why):
        list(script("lfw").shots(tmp_path))


def test_lfws_pairs_are_those_of_scikit_learns_loader(tmp_path):
    from sklearn.datasets import fetch_lfw_pairs

    rng, home = np.random.default_rng(0), tmp_path / "lfw_home"
    for name in ("Ada_One_0001", "Ada_One_0002", "Bob_Two_0001", "Bob_Two_0002", *(f"Cy_Three_000{i}" for i in range(1, 5))):
        save(torch.from_numpy(rng.uniform(-1, 1, (3, 250, 250)).astype(np.float32)), home / "lfw_funneled" / name[:-5] / f"{name}.jpg")
    for name in ("pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt"):
        (home / name).write_text(LFW_PAIRS)
    corner = (slice(0, 4), slice(0, 4))
    theirs = fetch_lfw_pairs(subset="10_folds", data_home=tmp_path, download_if_missing=False, slice_=corner, resize=None, color=True)
    pictures, file = script("lfw").find(tmp_path)
    ours = script("lfw").read_pairs(file)
    assert [int(same) for *_, same in ours] == theirs.target.tolist() and [fold for fold, *_ in ours] == ["1", "1", "2", "2"]
    for (_, *both, _), pair in zip(ours, theirs.pairs, strict=True):
        for name, picture in zip(both, pair, strict=True):
            np.testing.assert_allclose(read_picture(pictures / name)[:4, :4] / 255, picture, atol=1e-6)


@needs_dlib
def test_lfw_is_fetched_only_if_asked(tmp_path, faces, capsys, monkeypatch):
    import sklearn.datasets

    face = large(faces)[0]
    (tmp_path / "in").mkdir()

    def fetch(*, data_home, **options):
        assert options.get("download_if_missing", True)
        for i in (1, 2):
            save(face, data_home / "lfw_home" / "lfw_funneled" / "Ada_One" / f"Ada_One_000{i}.jpg")
        (data_home / "lfw_home" / "pairs.txt").write_text("1 1\nAda_One 1 2\nAda_One 1 Bob_Two 1\n")

    def refuse(**_):
        raise OSError("no route to host")

    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib"]
    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", refuse)
    assert script("lfw").main(call) == 2 and "holds no lfw_home/lfw_funneled" in capsys.readouterr().err
    assert script("lfw").main([*call, "--download"]) == 2 and "could not fetch LFW" in capsys.readouterr().err
    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", fetch)
    assert script("lfw").main([*call, "--download"]) == 0 and "1 of 2 pairs" in capsys.readouterr().out
    monkeypatch.setattr(sklearn.datasets, "fetch_lfw_people", refuse)
    assert script("lfw").main(call) == 0 and "0 pictures in" in capsys.readouterr().out, "the same folder, with or without --download"


IJB_A_COLUMNS = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,RIGHT_EYE_X,FACIAL_HAIR\n"


@needs_dlib
@pytest.mark.parametrize("top", ["", "images"])
def test_ijb_a(tmp_path, faces, capsys, top):
    root, left, right = tmp_path / "in", "40,40,80.5,95", "200,40,80,95"
    images = root / top
    for name, picture in {"img/1.JPG": torch.cat([faces[0], faces[1]], -1), "img/2.jpg": faces[0], "frame/7_00000.png": faces[1]}.items():
        save(picture, images / name)
    (images / "img" / "4.jpg").write_bytes(b"no picture")
    assert len(find_landmarks(read_picture(images / "img" / "1.JPG"), "dlib")) == 2
    tables = {
        "IJB-A_1N_sets/split1/search_gallery_1.csv": [f"1,101,img/1.JPG,1,11,,{left},,0"],
        "IJB-A_1N_sets/split1/search_probe_1.csv": [f"2,102,img/1.JPG,1,12,,{right},50,", f"3,101,img/3.jpg,3,13,,{left},,"],
        "IJB-A_11_sets/split1/verify_metadata_1.csv": [
            f"1,101,img/2.jpg,2,14,,{left},,", f"2,102,frame/7_00000.png,7,15,0,{left},,", f"3,101,img/3.jpg,3,13,,{left},,",
            f"4,101,img/1.JPG,1,11,,{left},,", f"5,103,img/4.jpg,4,16,,{left},,"],
        "IJB-A_11_sets/split1/train_1.csv": [
            f"1,0,img/2.jpg,2,14,,{left},,", "1,0,img/2.jpg,2,17,,,,,,,", "1,0,img/2.jpg,2,18,,5,5,0,9,,", "9,0",
            f"1,0,img/1.JPG,1,19,,{right},,"],
    }  # fmt: skip
    for name, lines in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(IJB_A_COLUMNS + "".join(f"{line}\n" for line in lines))
    (root / "IJB-A_11_sets" / "split1" / "verify_comparisons_1.csv").write_text("1,2\n1,3\n1,4\n5,1\n\n")
    assert script("ijb_a").main([str(root), str(tmp_path / "out"), "--size", "64", "--detector", "dlib"]) == 0
    found = rows(tmp_path / "out")
    assert {key: (row["identity"], row["media"]) for key, row in found.items()} == {
        "img/1.JPG#11": ("101", "1"), "img/1.JPG#12": ("102", "1"), "img/2.jpg#14": ("101", "2"), "frame/7_00000.png#15": ("102", "7"),
        "img/1.JPG#19": ("", "1")}  # fmt: skip
    said = rejects(tmp_path / "out")
    assert {key: reason.partition(",")[0] for key, reason in said.items() if key != "img/4.jpg#16"} == {
        "img/3.jpg#13": "listed", "img/2.jpg#17": "its box is not four numbers", "img/2.jpg#18": "its box is 0 wide and 9 high",
        "IJB-A_11_sets/split1/train_1.csv line 5": "the line is cut off"}  # fmt: skip
    assert "not a picture" in said["img/4.jpg#16"]
    name = {key.partition("#")[2]: row["file_name"] for key, row in found.items()}
    assert (tmp_path / "out" / "templates.csv").read_text().splitlines() == [
        "task,split,role,template,identity,media,file_name",
        f"identification,1,gallery,1,101,1,{name['11']}", f"identification,1,probe,2,102,1,{name['12']}",
        f"verification,1,verify,1,101,2,{name['14']}", f"verification,1,verify,2,102,7,{name['15']}",
        f"verification,1,verify,4,101,1,{name['11']}", f"verification,1,train,1,101,2,{name['14']}",
        f"verification,1,train,1,,1,{name['19']}"]  # fmt: skip
    assert (tmp_path / "out" / "comparisons.csv").read_text().splitlines() == ["split,first,second,same", "1,1,2,0", "1,1,4,1"]
    told = capsys.readouterr().out
    assert "7 of 13 rows" in told and "2 of 4 in comparisons.csv" in told
    assert re.findall(r"^  (.+)$", told, re.M) == ["identification, split 1, probe: 3", "verification, split 1, train: 9",
                                                   "verification, split 1, verify: 3", "verification, split 1, verify: 5"]  # fmt: skip
    photos = Photos(tmp_path / "out")
    order = [row["file_name"] for row in photos.rows]
    one, two, alone, other = (photos[order.index(name[sighting])].image for sighting in ("11", "12", "14", "15"))
    inner = (..., slice(20, 44), slice(20, 44))
    for ours, same, another in ((one, alone, other), (two, other, alone)):  # each of the two in one picture is who its box says
        assert (ours - same)[inner].abs().mean() < 0.3 * (ours - another)[inner].abs().mean()


def test_ijb_as_damaged_tables_are_named(tmp_path):
    folder = tmp_path / "IJB-A_11_sets" / "split2"
    folder.mkdir(parents=True)
    table, pairs = folder / "verify_metadata_2.csv", folder / "verify_comparisons_2.csv"
    table.write_text(IJB_A_COLUMNS.replace("SIGHTING_ID,", "") + "1,2\n")
    with pytest.raises(AssetError, match="no column SIGHTING_ID"):
        list(script("ijb_a").shots(tmp_path))
    table.write_text(IJB_A_COLUMNS + "1,101,img/2.jpg,2,14,,1,2,3,4,,\n")
    with pytest.raises(AssetError, match=r"verify_comparisons_2\.csv does not exist"):
        list(script("ijb_a").shots(tmp_path))
    pairs.write_text("1,1\n1 1\n")
    with pytest.raises(AssetError, match="line 2 is not two templates"):
        list(script("ijb_a").shots(tmp_path))
    pairs.write_text("1,1\n")
    assert [shot.trouble for shot in script("ijb_a").shots(tmp_path)] == ["listed, but there is no such picture"]


def ms_celeb(file, faces):
    """A table in which of nine lines five tell a face of two people, and one another of a third."""
    import io

    def jpeg(face):
        buffer = io.BytesIO()
        Image.fromarray(((face.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(buffer, "JPEG", quality=95)
        return base64.b64encode(buffer.getvalue()).decode()

    def line(mid, rank, data, face="FaceId-0"):
        return "\t".join((mid, str(rank), "http://a.b/c.jpg", "http://a.b", face, "AAAAAAAAAAAAAIA/AACAPw==", data))

    lines = [line("m.0107_f", 0, jpeg(faces[0])), line("m.0107_f", 7, jpeg(faces[1])), line("m.0107_f", 7, "no base64"),
             line("m.02z", 0, jpeg(faces[2])), "m.02z\t1\thttp://a.b/c.jpg", line("../m.02z", 2, jpeg(faces[3])),
             line("m.03", 0, jpeg(faces[4])), line("m.02z", 3, jpeg(faces[3]), "FaceId-1"),
             line("m.0107_f", 9, base64.b64encode(b"no picture").decode())]  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\r\n".join(lines))  # the last without an end


@needs_dlib
@pytest.mark.parametrize("place", ["FaceImageCroppedWithAlignment.tsv", "data/aligned_face_images/MsCelebV1-Faces-Aligned.tsv"])
def test_ms_celeb_1m(tmp_path, faces, capsys, place):
    ms_celeb(tmp_path / "in" / place, faces)
    call = [str(tmp_path / "in"), str(tmp_path / "out"), "--size", "64", "--detector", "dlib", "--people", "2"]
    assert script("ms_celeb_1m").main([*call, "--test", "0.5"]) == 0
    found = rows(tmp_path / "out")
    assert {key: (row["identity"], row["split"]) for key, row in found.items()} == {
        "m.0107_f/0-FaceId-0.jpg": ("m.0107_f", "train"), "m.0107_f/7-FaceId-0.jpg": ("m.0107_f", "train"),
        "m.02z/0-FaceId-0.jpg": ("m.02z", "test"), "m.02z/3-FaceId-1.jpg": ("m.02z", "test")}  # fmt: skip
    said = rejects(tmp_path / "out")
    assert "no base64" in said["line 3"] and "3 columns instead of 7" in said["line 5"] and "no MID" in said["line 6"]
    assert "not a picture" in said["m.0107_f/9-FaceId-0.jpg"] and len(said) == 4
    assert not list(tmp_path.rglob("2-FaceId-0.jpg")) and (tmp_path / "out-unpacked" / "m.02z").is_dir()
    assert script("ms_celeb_1m").main([*call, "--test", "0.5"]) == 0 and "0 pictures in" in capsys.readouterr().out
    assert script("ms_celeb_1m").main([*call, "--pictures", "1"]) == 2
    assert "unpacked with other settings" in capsys.readouterr().err
    one = script("ms_celeb_1m").shots(tmp_path / "in", tmp_path / "few", None, 1, 0)
    assert [shot.key for shot in one if not shot.trouble] == ["m.0107_f/0-FaceId-0.jpg", "m.02z/0-FaceId-0.jpg", "m.03/0-FaceId-0.jpg"]
    with pytest.raises(ShapeError, match="at least 1"):
        list(script("ms_celeb_1m").shots(tmp_path / "in", tmp_path / "none", 0, None, 0))


@pytest.mark.parametrize("writes", range(1, 12))
def test_ms_celeb_goes_on_where_unpacking_was_killed(tmp_path, faces, monkeypatch, writes):
    ms_celeb(tmp_path / "in" / "FaceImageCroppedWithAlignment.tsv", faces)
    module, table = script("ms_celeb_1m"), tmp_path / "in" / "FaceImageCroppedWithAlignment.tsv"
    monkeypatch.setattr(module, "EVERY", 4)
    module.unpack(table, tmp_path / "whole", 3, 2)
    left, write, read, lines = [writes], module.write_whole, module.read_line, []

    def killed(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(module, "write_whole", killed)
    try:
        module.unpack(table, tmp_path / "again", 3, 2)
    except KeyboardInterrupt:
        pass
    monkeypatch.setattr(module, "write_whole", write)
    monkeypatch.setattr(module, "read_line", lambda line: lines.append(line) or read(line))
    module.unpack(table, tmp_path / "again", 3, 2)
    assert len(lines) < 9 or writes < 5, "what is behind the noted place is not read again"
    whole, again = ({path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
                    for name in ("whole", "again"))  # fmt: skip
    assert whole == again and len(whole) == 5 + 3 + 1


EVERY_SET = ["celeba", "rafd", "multipie", "emotionet", "hands", "cats", "300vw", "300w_lp", "voxceleb2", "casia_webface", "lfw", "ijb_a",
             "ms_celeb_1m"]  # fmt: skip


@pytest.mark.parametrize("name", EVERY_SET)
def test_another_layout_is_named(name, tmp_path, capsys):
    (tmp_path / "in" / "img_align_celeba").mkdir(parents=True)
    (tmp_path / "in" / "img_align_celeba" / "x.png").write_bytes(b"")
    assert script(name).main([str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "holds no" in error and not (tmp_path / "out").exists()
    assert script(name).main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", EVERY_SET)
def test_each_script_says_where_the_set_comes_from_and_its_terms(name, capsys):
    with pytest.raises(SystemExit):
        script(name).main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("Source:", "Terms:", "Layout", "Command:", "--size", f"data_prep/{name}.py"))


def test_damaged_tables_are_named(tmp_path, faces):
    celeba(tmp_path, faces)
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 7\n000002.jpg\n")
    with pytest.raises(AssetError, match="identity_CelebA.txt is damaged"):
        list(script("celeba").shots(tmp_path))
    (tmp_path / "aus.csv").write_text("picture,smile\na.jpg,1\n")
    with pytest.raises(AssetError, match="needs a column URL"):
        list(script("emotionet").shots(tmp_path))
    with pytest.raises(AssetError, match="no camera 99_9"):
        list(script("multipie").shots(tmp_path, ["99_9"], ["06"], 0.1))


@pytest.mark.parametrize("count", [1, 7, 10, 67, 337])
def test_who_is_held_out(count):
    names = [f"{i:03d}" for i in range(count)]
    for share in (0, 0.1, 0.2, 0.5, 0.9):
        tested = held_out(names * 3, share)
        assert len(tested) == round(share * count) and tested <= set(names) and tested == held_out(reversed(names), share)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ShapeError):
            held_out(names, share)
