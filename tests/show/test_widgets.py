"""Widgets without a browser: moving a control changes the picture's bytes, and what is shown is what ``draw`` says."""
import io

import numpy as np
import pytest
import torch
from PIL import Image

from facelab import show
from facelab.core import ShapeError
from facelab.evaluation import RatingError
from facelab.faces import FaceWorld
from facelab.faces.photos import comment_of
from facelab.geometry import boundary_map
from facelab.papers import fvae
from facelab.show import ClusterExplorer, HistogramExplorer, LatentExplorer, LiveCurves, PriorExplorer, Puppet
from facelab.show.pictures import CLUSTERS, to_pixels
from facelab.show.widgets.parts import jpeg, resize


@pytest.fixture(scope="module")
def world():
    return FaceWorld(0)


@pytest.fixture
def puppet(world):
    return Puppet(world, world.sample(1, size=32, start=2), size=96)


def shown(puppet):
    return [child.value for child in puppet.view.children[0].children[:2]]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_strings_are_the_models_directions(puppet, world):
    names = list(puppet.sliders)
    assert names[: len(world.model.expression_names)] == list(world.model.expression_names)
    assert names[-3:] == ["yaw", "pitch", "roll"] and "shape_0" in names
    assert all(slider.description == name for name, slider in puppet.sliders.items())
    assert "facelab-puppet" in puppet.view._dom_classes


def test_a_puppet_shows_what_it_is_asked_to_show(world):
    seen = []

    def panels(posed):
        seen.append(posed)
        return posed.image[0], -posed.image[0], posed.face_mask[0]

    puppet = Puppet(world, world.sample(1, size=32, start=2), size=48, panels=panels)
    assert len(puppet.view.children[0].children[:-1]) == 3 and puppet.paint is None
    before = [child.value for child in puppet.view.children[0].children[:-1]]
    puppet.sliders["yaw"].value = 40
    after = [child.value for child in puppet.view.children[0].children[:-1]]
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert seen[-1].size == 48 and torch.rad2deg(seen[-1].pose[0, 0]).item() == pytest.approx(40)


@pytest.mark.parametrize("string", ["jaw_open", "blink_left", "shape_0", "yaw"])
def test_pulling_a_string_moves_face_and_map_and_letting_go_moves_them_back(puppet, string):
    before = shown(puppet)
    puppet.sliders[string].value = puppet.sliders[string].max
    after = shown(puppet)
    assert before[0] != after[0] and before[1] != after[1]
    for data, drawn in zip(after, puppet.draw(**{string: puppet.sliders[string].max}), strict=True):
        assert np.abs(pixels(data) - drawn).mean() < 4  # the widget shows what draw gives, but for JPEG
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


@pytest.fixture
def latent(world, puppet):
    faces = world.sample(8, size=32, start=60)
    codes = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 3, 1, 1, 1])
    directions = torch.linalg.svd(codes - codes.mean(0), full_matrices=False).Vh

    def paint(code, boundary):  # brightness is the code's first coordinate, the lines are drawn in
        return (code @ directions[0] / 40)[:, None, None, None].expand(1, 3, 32, 32) * (1 - boundary) + boundary

    return LatentExplorer(faces, codes, paint, puppet, components=3)


def test_a_component_is_a_standard_deviation_of_the_codes(latent):
    at = [latent.draw(2, 4, component_0=v)[:, 2 * latent.HEIGHT :].astype(float).mean() for v in (-1, 0, 1)]
    projected = (latent.codes - latent.codes.mean(0)) @ latent._steps[0]
    assert torch.isclose(projected.std(), latent._steps[0].norm() ** 2, rtol=1e-4)
    assert np.isclose(at[2] - at[1], at[1] - at[0], atol=1) and abs(at[2] - at[0]) > 20
    assert 0.5 < latent.spread[0] < 1 and (latent.spread.diff() <= 0).all()
    assert np.array_equal(latent.draw(2, 4, component_1=2), latent.draw(2, 4))  # perpendicular to what this painter sees


def test_appearance_and_structure_are_the_chosen_faces(latent, puppet):
    drawn = latent.draw(2, 4)
    source, line = drawn[:, : latent.HEIGHT], drawn[:, latent.HEIGHT : 2 * latent.HEIGHT]
    assert np.array_equal(source, latent.draw(2, 5)[:, : latent.HEIGHT])
    assert not np.array_equal(source, latent.draw(3, 4)[:, : latent.HEIGHT])
    assert not np.array_equal(line, latent.draw(2, 5)[:, latent.HEIGHT : 2 * latent.HEIGHT])
    by_hand = latent.draw(2, {"yaw": 40})[:, latent.HEIGHT : 2 * latent.HEIGHT]
    small = to_pixels(boundary_map(puppet.posed(32, yaw=40).landmarks, 32)[0])
    assert np.array_equal(by_hand, np.asarray(Image.fromarray(small).resize((latent.HEIGHT,) * 2, Image.Resampling.BICUBIC)))


def test_every_control_of_the_latent_explorer_repaints(latent, puppet):
    seen = [latent._picture.value]

    def repainted():
        seen.append(latent._picture.value)
        return seen[-1] != seen[-2]

    latent.appearance.value = 3
    assert repainted()
    latent.structure.value = 5
    assert repainted()
    latent.sliders["component_0"].value = 2.0
    assert repainted()
    assert np.abs(pixels(latent._picture.value) - latent.draw(3, 5, component_0=2.0)).mean() < 3
    puppet.sliders["yaw"].value = 30
    assert not repainted()  # the structure is still a face's
    latent.by_hand.value = True
    assert repainted()
    puppet.sliders["yaw"].value = -30
    assert repainted()
    assert np.abs(pixels(latent._picture.value) - latent.draw(3, {"yaw": -30}, component_0=2.0)).mean() < 3


def test_latent_explorer_refuses_what_does_not_fit(latent, puppet):
    with pytest.raises(ShapeError, match="no slider called component_9"):
        latent.draw(component_9=1)
    with pytest.raises(ShapeError, match="no string called tail"):
        latent.draw(0, {"tail": 1})
    with pytest.raises(ShapeError, match="one code a face"):
        LatentExplorer(latent.faces, latent.codes[:5], latent.paint, puppet)


def test_prior_explorer_charges_what_the_closed_forms_say():
    means, scales = torch.tensor([[0.0, 1.0], [-0.9, -0.5], [0.9, -0.5]]), torch.full((3,), 0.25)
    explorer = PriorExplorer(means, scales, (0.2, 0.3), 0.15)
    one = explorer.divergences((1, 0, 0))
    assert one["mixture"] == pytest.approx(one["additive"], abs=0.02)  # a single part: the two priors are the same
    spread = explorer.divergences((2, 2, 2))
    assert spread == explorer.divergences((0.5, 0.5, 0.5))  # weights count relative to their sum
    assert spread["additive"] != pytest.approx(spread["mixture"], abs=0.5)
    before = explorer.view.children[0].value
    explorer.sliders["w_1"].value = 0.7
    after = explorer.view.children[0].value
    assert before != after and np.abs(pixels(after) - explorer.draw(1.0, 0.7, 0.0)).mean() < 4
    with pytest.raises(ShapeError, match="give 3 weights"):
        explorer.draw(1.0)
    with pytest.raises(ShapeError, match="plane"):
        PriorExplorer(torch.zeros(3, 3), scales, (0, 0), 0.1)


@pytest.fixture
def levels():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 32).expand(2, 3, 32, 32).clone()
    ramp[1] *= 0.5
    shuffled = ramp.flatten(2)[..., torch.randperm(1024, generator=generator)].unflatten(2, (32, 32))
    return HistogramExplorer({"source": ramp, "half": ramp / 2, "shuffled": shuffled})


def test_the_histogram_is_of_the_grey_levels(levels):
    assert torch.equal(levels.bits["source"], levels.bits["shuffled"])
    drawn = {name: levels.draw(0, name).astype(int) for name in levels.bits}
    chart = {name: d[40:, levels.HEIGHT :] for name, d in drawn.items()}
    face = {name: d[:, : levels.HEIGHT] for name, d in drawn.items()}
    assert np.abs(chart["source"] - chart["shuffled"]).max() == 0 and np.abs(face["source"] - face["shuffled"]).mean() > 20
    reach = {name: np.ptp(np.nonzero((c[..., 2] - c[..., 0] > 40).mean(axis=0) > 0.05)[0]) for name, c in chart.items()}
    assert 0.4 < reach["half"] / reach["source"] < 0.6  # half the contrast


def test_choosing_picture_and_version_repaints(levels):
    before = levels._image.value
    levels.version.value = "half"
    after = levels._image.value
    levels.picture.value = 1
    assert len({before, after, levels._image.value}) == 3
    assert np.abs(pixels(levels._image.value) - levels.draw(1, "half")).mean() < 3
    with pytest.raises(ShapeError, match="no version called sharp"):
        levels.draw(0, "sharp")
    with pytest.raises(ShapeError, match="same pictures"):
        HistogramExplorer({"a": torch.zeros(2, 3, 8, 8), "b": torch.zeros(1, 3, 8, 8)})


def blue(drawn):
    """Where a curve is: the accent's blue over white."""
    return drawn[..., 2].astype(int) - drawn[..., 0] > 90


def test_live_curves_show_every_term_and_follow_the_history():
    curves = LiveCurves()
    history = [{"step": 50 * k, "seconds": k, "pixels": 100 / k, "kl": float(k), "learning_rate": 1e-3} for k in range(1, 9)]
    history[-1]["validation"] = 0.5
    before = curves.view.value
    curves(history)
    after = pixels(curves.view.value)
    assert curves.view.value != before and np.abs(after - curves.draw(history)).mean() < 3
    w, h = curves.WIDTH, curves.HEIGHT
    assert after.shape == (h, 3 * w, 3), "pixels, kl and validation, but no panel for the learning rate"
    falls, rises = (np.nonzero(blue(curves.draw(history))[24:, i * w : (i + 1) * w - 12]) for i in (0, 1))
    assert np.corrcoef(*falls)[0, 1] > 0.8 and np.corrcoef(*rises)[0, 1] < -0.8, "y points down in a picture"
    four = curves.draw([row | {"gradient_norm": 1.0} for row in history])
    assert four.shape == (2 * h, 3 * w, 3) and curves.draw([]).min() == 255


# ---------------------------------------------------------------------------------------------------- expression editor


@pytest.fixture(scope="module")
def editor():
    """An untrained FVAE that moves: its filters are as large as trained ones."""
    torch.manual_seed(0)
    faces = FaceWorld(2).sample(12, size=32, expressions=["neutral", "smile", "surprise"], sitting=3, yaw=(-8, 8))
    model = fvae.Model(fvae.Config(size=32, width=0.125))
    for convolution in (m for m in model.modules() if isinstance(m, torch.nn.Conv2d)):
        torch.nn.init.kaiming_normal_(convolution.weight)
    model.prepare(faces)
    with torch.no_grad():
        model.train().losses(model.draw(faces, 8, torch.Generator().manual_seed(0)))
    model.eval().remember(faces)
    return show.ExpressionEditor(model, faces.image[:1])


def test_the_editor_has_a_slider_for_every_expression_but_rest(editor):
    assert list(editor.sliders) == ["smile", "surprise"]


def test_the_editor_shows_the_edit_of_algorithm_1(editor):
    side = editor.SIDE
    drawn = editor.draw(smile=1.5)
    assert drawn.shape == (side, 6 * side, 3)
    panels = [drawn[:, k * side : (k + 1) * side] for k in range(4)]
    model, direction = editor.model, 1.5 * editor.model.direction("smile", "neutral")
    edit = model.edit(editor.image, direction, 1)[0, 1]
    assert np.abs(panels[1].astype(int) - resize(show.to_pixels(edit), side)).max() <= 1
    assert np.array_equal(panels[0], resize(show.to_pixels(editor.image[0]), side))
    code = editor.code + direction
    full = editor.REACH * editor.image.shape[-1]
    assert np.array_equal(panels[2], resize(show.flow_colours(model.flow(editor.image, code)[0], full), side))
    assert np.array_equal(panels[3], resize(show.to_pixels(model.confidence(editor.image, code)[0]), side))
    assert not np.array_equal(drawn, editor.draw(smile=-1)) and not np.array_equal(drawn, editor.draw(surprise=1.5))


def test_every_slider_of_the_editor_repaints_and_another_face_can_be_opened(editor):
    for slider in editor.sliders.values():
        before = editor._picture.value
        slider.value = 1
        assert editor._picture.value != before
        slider.value = 0
        assert editor._picture.value == before
    first = editor.image
    editor.open(first.flip(3))
    assert editor._picture.value != before
    editor.open(first)
    assert editor._picture.value == before


def test_the_editor_refuses_what_it_cannot_do(editor):
    with pytest.raises(ShapeError, match="no slider called fear; there are smile, surprise"):
        editor.draw(fear=1)
    with pytest.raises(ShapeError, match="32"):
        editor.open(torch.zeros(1, 3, 64, 64))
    with pytest.raises(fvae.PairError, match="call remember"):
        show.ExpressionEditor(fvae.Model(fvae.Config(size=32, width=0.125)).eval(), torch.zeros(1, 3, 32, 32))


def test_the_editor_saves_the_edit_and_says_what_it_cannot(editor, tmp_path):
    save = editor.view.children[2].children[0]
    editor.file.value = str(tmp_path / "edit.png")
    editor.sliders["smile"].value = 1.5
    save.click()
    assert editor.said.value == f"written: {tmp_path / 'edit.png'}" and comment_of(tmp_path / "edit.png") == "made with facelab"
    code = editor.model.encode(editor.image)[0] + 1.5 * editor.model.direction("smile", "neutral")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "edit.png")), to_pixels(editor.model.decode(editor.image, code)[0]))
    for name, message in (("edit.bmp", ".png or .jpg"), ("", ".png or .jpg"), ("edit.png/x.png", "edit.png")):
        editor.file.value = str(tmp_path / name)
        save.click()
        assert message in editor.said.value


# ---------------------------------------------------------------------------------------------------- quiz


@pytest.fixture
def pictures():
    return {name: torch.full((4, 3, 16, 16), value) for name, value in (("real", 0.0), ("ours", 0.5), ("rival", -0.5))}


def test_a_quiz_shows_each_methods_pictures_once_in_an_order_of_each_raters_own(pictures):
    quiz = show.Quiz(pictures, each=3)
    order = quiz.order("Ann")
    assert len(order) == len(set(order)) == 9 and {m for m, _ in order} == set(pictures)
    assert order == quiz.order("Ann") != quiz.order("Bob") and order != show.Quiz(pictures, each=3, seed=1).order("Ann")
    assert [m for m, _ in order] != sorted(m for m, _ in order), "shuffled"


def test_a_quiz_counts_what_was_answered_by_its_buttons(pictures):
    quiz = show.Quiz(pictures, each=4)
    assert quiz.real.disabled and "name" in quiz._words.value
    quiz.begin.click()
    assert quiz.real.disabled and "name, please" in quiz._words.value
    quiz.rater.value = "Ann"
    quiz.begin.click()
    for k, (method, _) in enumerate(quiz.order("Ann")):
        assert f"{12 - k} to go" in quiz._words.value and "ours" not in quiz._words.value
        assert quiz._picture.value == jpeg(resize(show.to_pixels(pictures[method][0]), quiz.SIDE))
        {"real": quiz.real, "ours": quiz.skip, "rival": quiz.made}[method].click()
    assert quiz.real.disabled and "100%" in quiz._words.value
    assert len(quiz.judgements) == 8, "what was skipped does not count"
    assert quiz.results().rate.to_dict() == {"real": 1.0, "rival": 0.0}
    quiz.answer(True)
    assert len(quiz.judgements) == 8, "nothing is asked any more"


def test_raters_who_do_not_look_are_dropped(pictures):
    quiz = show.Quiz(pictures)
    for rater, sees in (("Ann", True), ("Bob", False)):
        quiz.start(rater)
        while quiz._left:
            quiz.answer((quiz._left[0][0] != "rival") == sees)
    assert quiz.results().raters.tolist() == [1, 1, 1] and quiz.results().rate["ours"] == 1


def test_an_interrupted_quiz_goes_on_where_it_was(pictures, tmp_path):
    file = tmp_path / "answers.csv"
    first = show.Quiz(pictures, file=file)
    first.start("Ann")
    for said in (True, False, None, True):
        first.answer(said)
    again = show.Quiz(pictures, file=file)
    assert again.judgements.equals(first.judgements) and len(again.judgements) == 3
    again.start("Ann ")
    assert again._left == again.order("Ann")[4:]
    again.answer(False)
    assert len(file.read_text().splitlines()) == 6, "one head, five answers"


def test_a_quiz_refuses_what_it_cannot_use(pictures, tmp_path):
    with pytest.raises(ShapeError, match='must be "real"'):
        show.Quiz({"ours": pictures["ours"]})
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RatingError, match="other.csv has the columns"):
        show.Quiz(pictures, file=tmp_path / "other.csv")
    (tmp_path / "edited.csv").write_text("rater,method,picture,said_real\nAnn,ours,1,True\nBob,ours,1,yes\n")
    with pytest.raises(RatingError, match="edited.csv, line 3"):
        show.Quiz(pictures, file=tmp_path / "edited.csv")


def vote(pictures, **options):
    return show.Vote({name: pictures[name] for name in ("ours", "rival")}, pictures["real"], **options)


def test_a_vote_shows_every_row_once_in_an_order_of_each_raters_own(pictures):
    study = vote(pictures, each=3)
    rows = {study.row("Ann", k)[0] for k in range(4)} | {study.row(rater, 0)[0] for rater in "abcdefgh"}
    assert len(set(study.order("Ann"))) == 3 and rows == {"ours", "rival"}
    assert study.draw("Ann", 0).shape == (160, 480, 3) and study.draw("Ann", 0)[80, 80].tolist() == [128, 128, 128], "given, first"
    assert study.draw("Ann", 0)[80, 240, 0] == {"ours": 191, "rival": 64}[study.row("Ann", 0)[0]]


def test_a_vote_counts_what_was_chosen_by_its_buttons(pictures, tmp_path):
    file = tmp_path / "votes.csv"
    study = vote(pictures, file=file)
    assert study.choices[0].disabled
    study.rater.value = "Ann"
    study.begin.click()
    for k, number in enumerate(study.order("Ann")):
        assert f"{4 - k} to go" in study._words.value and "ours" not in study._words.value
        assert study._picture.value == jpeg(study.draw("Ann", number))
        (study.skip if k == 3 else study.choices[study.row("Ann", number).index("rival" if k == 2 else "ours")]).click()
    assert study.choices[0].disabled and "Thank you" in study._words.value
    table = study.results()
    assert table.rate.to_dict() == pytest.approx({"ours": 2 / 3, "rival": 1 / 3}) and table.answers.tolist() == [3, 3]
    study.answer(0)
    again = vote(pictures, file=file)
    assert again.votes.equals(study.votes) and len(again.votes) == 3, "what was skipped does not count"
    again.start("Ann")
    assert not again._left, "nor is it asked again"


def test_a_vote_refuses_what_it_cannot_use(pictures, tmp_path):
    with pytest.raises(ShapeError, match="two methods"):
        show.Vote({"ours": pictures["ours"]}, pictures["real"])
    with pytest.raises(ShapeError, match="'rival': 3"):
        show.Vote({"ours": pictures["ours"], "rival": pictures["rival"][:3]}, pictures["real"])
    (tmp_path / "other.csv").write_text("rater,method,picture,said_real\n")
    with pytest.raises(RatingError, match="rater, picture, chosen"):
        vote(pictures, file=tmp_path / "other.csv")
