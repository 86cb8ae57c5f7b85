"""The morphable model: PCA exactness, the linear shape equation, and every file format it reads."""
import numpy as np
import pytest
import torch

from facelab.core import AssetError, ShapeError, assets_folder
from facelab.geometry import MorphableModel
from facelab.geometry.morphable import EYE, EYES, MOUTH, NECK, SKIN, TEETH

TRIANGLES = torch.tensor([[0, 1, 2], [1, 2, 3]])


def scans(count, vertices=12, rank=None, seed=0):
    """Random scans; with ``rank``, in an affine space of that dimension."""
    g = torch.Generator().manual_seed(seed)
    if rank is None:
        return torch.rand(count, vertices, 3, generator=g, dtype=torch.float64)
    directions = torch.rand(rank, vertices, 3, generator=g, dtype=torch.float64) - 0.5
    weights = torch.rand(count, rank, generator=g, dtype=torch.float64) - 0.5
    return 2 + torch.einsum("nr,rvc->nvc", weights, directions)


def model_of(data, components):
    return MorphableModel.from_scans(data, TRIANGLES, torch.arange(68) % data.shape[1], components)


def coefficients(model, shapes):
    basis = model.identity_basis.flatten(1).double()
    return (shapes.double() - model.mean.double()).flatten(1) @ torch.linalg.pinv(basis)


def test_all_directions_rebuild_every_scan():
    data = scans(9)
    model = model_of(data, 8)
    rebuilt = model.shape(coefficients(model, data).float())
    assert torch.allclose(rebuilt, data.float(), atol=2e-6)


def test_a_rank_three_family_needs_three_directions_and_no_fewer():
    data = scans(40, rank=3)
    fresh = scans(41, rank=3)[40:]  # the same seed's directions, a weight the model has not seen
    error = [(model_of(data, k).shape(coefficients(model_of(data, k), fresh).float()) - fresh).abs().max().item() for k in (2, 3)]
    assert error[1] < 1e-5 < error[0]


def test_directions_are_orthogonal_and_carry_the_standard_deviations():
    data = scans(200)
    model = model_of(data, 10)
    flat = (data - data.mean(0)).flatten(1)
    gram = model.identity_basis.flatten(1).double() @ model.identity_basis.flatten(1).double().T
    variances = torch.linalg.eigvalsh(flat.T @ flat / (len(data) - 1)).flip(0)[:10]
    assert torch.allclose(gram, torch.diag(variances), atol=1e-6)
    assert torch.allclose(coefficients(model, data).var(0), torch.ones(10, dtype=torch.float64), atol=1e-4)


def test_pca_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    data = scans(30)
    model = model_of(data, 5)
    theirs = PCA(5, svd_solver="full").fit(data.flatten(1).numpy())
    directions = torch.from_numpy(theirs.components_ * theirs.explained_variance_[:, None] ** 0.5).reshape(5, -1, 3)
    sign = (directions * model.identity_basis).sum((1, 2)).sign()[:, None, None]
    assert torch.allclose(directions * sign, model.identity_basis.double(), atol=1e-6)


def test_shape_is_linear_and_the_batch_is_its_rows():
    model = MorphableModel.default()
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(3, 40, generator=g), torch.rand(3, len(model.expression_names), generator=g)
    both = model.shape(a, b)
    assert torch.allclose(both, model.shape(a) + model.shape(None, b) - model.mean, atol=1e-4)
    assert torch.allclose(both[1:2], model.shape(a[1:2], b[1:2]), atol=1e-5)
    assert torch.equal(model.shape(torch.zeros(1, 0))[0], model.mean)


def parts_are_whole(model):
    """A triangle lies in one part, but where the skin goes on to the neck or into the mouth."""
    labels = model.parts[model.triangles.long()]
    mixed = labels[(labels != labels[:, :1]).any(1)]
    return len(mixed) < 0.02 * len(labels) and set(mixed.unique().tolist()) <= {SKIN, NECK, MOUTH}


def test_the_default_head_is_what_the_issue_asks_for():
    model = MorphableModel.default()
    assert 6_000 <= len(model.mean) <= 15_000
    assert len(model.identity_basis) >= 30
    asked = {"jaw_open", "smile", "frown", "pucker", "lip_press", "corner_pull_left", "corner_pull_right", "brow_inner_up", "brow_outer_up",
             "brow_furrow", "blink_left", "blink_right", "squint", "nose_wrinkle", "cheek_puff"}  # fmt: skip
    assert asked <= set(model.expression_names)
    assert set(model.parts.tolist()) == {SKIN, EYE, TEETH, MOUTH, NECK}
    assert parts_are_whole(model)


def test_the_default_landmarks_lie_as_ibug_orders_them():
    model = MorphableModel.default()
    marks = model.mean[model.landmarks]
    assert torch.allclose(marks[EYES].mean(0), torch.zeros(3), atol=1e-5)
    jaw_and_brows = [*range(16, -1, -1), *range(26, 16, -1)]
    nose_and_eyes = [27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    lips = [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    mirror = torch.tensor(jaw_and_brows + nose_and_eyes + lips)
    assert torch.allclose(marks[mirror] * torch.tensor([-1.0, 1, 1]), marks, atol=0.25)
    assert (marks[:17, 0].diff() > 0).all() and marks[8, 1] == marks[:, 1].min()
    assert marks[30, 2] == marks[:, 2].max(), "the tip of the nose is nearest to the viewer"
    assert (marks[17:27, 1] > marks[EYES, 1].max()).all() and (marks[48:, 1] < marks[33, 1]).all()
    assert marks[37, 1] > marks[41, 1] and marks[62, 1] >= marks[66, 1]


def test_expressions_move_what_they_name():
    model = MorphableModel.default()
    rest = model.mean[model.landmarks]
    moved = lambda name: (model.shape(None, model.coefficients(**{name: 1.0}))[0] - model.mean)[model.landmarks]  # noqa: E731
    opening = lambda name, top, bottom: (rest + moved(name))[top, 1] - (rest + moved(name))[bottom, 1]  # noqa: E731
    assert opening("jaw_open", 62, 66) > 1.5
    assert opening("blink_left", 43, 47) < 0.2 * (rest[43, 1] - rest[47, 1]) and moved("blink_left")[36:42].abs().max() < 1e-3
    assert opening("blink_right", 37, 41) < 0.2 * (rest[37, 1] - rest[41, 1]) and moved("blink_right")[42:48].abs().max() < 1e-3
    assert moved("smile")[54, 1] > 0.3 and moved("frown")[54, 1] < -0.2
    assert moved("corner_pull_left")[54, 0] > 0.2 and moved("corner_pull_left")[48].abs().max() < 1e-3
    assert moved("pucker")[54, 0] < -0.3 and moved("pucker")[57, 2] > 0.1
    assert moved("brow_inner_up")[21, 1] > 0.3 and moved("brow_outer_up")[18, 1] > 0.3 and moved("brow_furrow")[21, 1] < -0.2


def test_a_model_survives_its_file(tmp_path):
    model = MorphableModel.default()
    model.save(tmp_path / "head.safetensors")
    again = MorphableModel.load(tmp_path / "head.safetensors")
    assert again.expression_names == model.expression_names and torch.equal(again.triangles, model.triangles)
    assert torch.allclose(again.mean, model.mean, atol=1e-5) and torch.allclose(again.identity_basis, model.identity_basis, atol=1e-3)


def test_damaged_and_foreign_files_are_named_errors(tmp_path):
    with pytest.raises(AssetError, match="doctor"):
        MorphableModel.load(tmp_path / "none.npz")
    MorphableModel.default().save(tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("not a model")
    np.savez(tmp_path / "pickled.npz", neutral=np.array([{"a": 1}], dtype=object))
    (tmp_path / "head.obj").write_text("v 0 0 0")
    for name in ("cut.safetensors", "text.npz", "pickled.npz", "head.obj"):
        with pytest.raises(AssetError, match=name):
            MorphableModel.load(tmp_path / name)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"identity": torch.zeros(1, 999)}, "identity"),
        ({"identity": torch.zeros(3)}, "identity"),
        ({"expression": torch.zeros(1, 99)}, "expression"),
    ],
)
def test_wrong_coefficients_are_named_errors(arguments, message):
    with pytest.raises(ShapeError, match=message):
        MorphableModel.default().shape(**arguments)


def test_other_wrong_inputs_are_named_errors():
    with pytest.raises(ShapeError, match="jaw_opn.*jaw_open"):
        MorphableModel.default().coefficients(jaw_opn=1.0)
    with pytest.raises(ShapeError, match="at most 3"):
        model_of(scans(4), 4)
    bad = scans(4)
    bad[0, 0, 0] = float("nan")
    with pytest.raises(ShapeError, match="NaN"):
        model_of(bad, 2)


def write_basel(tmp_path, model, year):
    """A made Basel file: our own head under the names, units and orientation of the real ones."""
    mean, triangles = model.mean.double().numpy(), model.triangles.numpy()
    rng = np.random.default_rng(0)
    basis, deviation = np.linalg.qr(rng.standard_normal((mean.size, 3)))[0], np.array([3.0, 2.0, 1.0])
    if year == 2009:
        from scipy.io import savemat

        savemat(tmp_path / "bfm.mat", {"shapeMU": mean.reshape(-1, 1) * 1e4, "shapePC": basis, "shapeEV": deviation[:, None] * 1e4,
                                       "tl": triangles[:, [0, 2, 1]] + 1})  # fmt: skip
        return tmp_path / "bfm.mat", basis * deviation
    h5py = pytest.importorskip("h5py", reason="the Basel Face Model 2017 is HDF5: pip install h5py")
    with h5py.File(tmp_path / "bfm.h5", "w") as file:
        file["shape/model/mean"], file["expression/model/mean"] = mean.ravel() * 10, np.zeros(mean.size)
        for room in ("shape", "expression"):
            file[f"{room}/model/pcaBasis"], file[f"{room}/model/pcaVariance"] = basis, (deviation * 10) ** 2
        file["shape/representer/cells"] = triangles.T
    return tmp_path / "bfm.h5", basis * deviation


@pytest.mark.parametrize("year", [2009, 2017])
def test_basel_files_are_read_in_centimetres_and_get_landmarks(tmp_path, year):
    ours = MorphableModel.default()
    path, directions = write_basel(tmp_path, ours, year)
    model = MorphableModel.load(path)
    assert torch.allclose(model.mean - model.mean[0], ours.mean - ours.mean[0], atol=1e-3)
    assert np.allclose(model.identity_basis.flatten(1).numpy(), directions.T, atol=1e-4)
    assert torch.equal(model.triangles, ours.triangles)
    assert (model.mean[model.landmarks] - ours.mean[ours.landmarks]).norm(dim=1).max() < 0.05
    given = MorphableModel.load(path, landmarks=list(range(68)))
    assert given.landmarks.tolist() == list(range(68))


def ict():
    path = assets_folder() / "ict_facekit" / "ict_facekit_light.npz"
    if not path.is_file():
        pytest.skip("ICT-FaceKit's npz is not in the assets folder (FACELAB_ASSETS)")
    return path


def test_ict_facekit_is_read():
    model = MorphableModel.load(ict())
    assert len(model.identity_basis) == 100 and "jawOpen" in model.expression_names
    assert torch.allclose(model.mean[model.landmarks[EYES]].mean(0), torch.zeros(3), atol=1e-4)
    assert parts_are_whole(model)
    jaw = model.shape(None, model.coefficients(jawOpen=1.0))[0] - model.mean
    assert jaw[model.landmarks[8], 1] < -0.5


def test_landmarks_found_on_an_unlabelled_head_are_within_a_centimetre():
    from facelab.geometry.morphable import _guess_landmarks

    model = MorphableModel.load(ict())
    face = model.parts == SKIN
    elsewhere = torch.tensor([5.0, -30.0, 12.0])
    points = model.mean[face] * 1.1 + elsewhere
    found = points[_guess_landmarks(points)]
    inner = (found - model.mean[model.landmarks] * 1.1 - elsewhere).norm(dim=1)[17:]
    assert inner.median() < 0.7 and inner.max() < 1.2
