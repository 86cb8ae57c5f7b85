"""Each public set's script on a tiny made tree of the same layout: who, which expression, which split, which pose come out."""
import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from facelab.core import PACKAGE, AssetError, ShapeError
from facelab.faces import EXPRESSIONS, FaceWorld, HandWorld, Photos
from facelab.faces.photos import held_out
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


@pytest.mark.parametrize("name", ["celeba", "rafd", "multipie", "emotionet", "hands", "cats", "300vw", "300w_lp", "voxceleb2"])
def test_another_layout_is_named(name, tmp_path, capsys):
    (tmp_path / "in" / "img_align_celeba").mkdir(parents=True)
    (tmp_path / "in" / "img_align_celeba" / "x.png").write_bytes(b"")
    assert script(name).main([str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "holds no" in error and not (tmp_path / "out").exists()
    assert script(name).main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["celeba", "rafd", "multipie", "emotionet", "hands", "cats", "300vw", "300w_lp", "voxceleb2"])
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
