"""What only the Equilibrium CVAE has: LSUV as it is prepared, transposed convolutions, no normalisation, two terms."""
import torch
from stand_ins import seeded, smooth_faces
from torch import nn

from facelab.geometry import boundary_map
from facelab.papers.equilibrium_cvae import Config, Model


def small(**changes):
    return Model(Config(size=16, width=8, most=16, code=8, clusters=4, **changes))


def test_it_is_a_u_net_of_plain_and_transposed_convolutions():
    kinds = [type(module) for module in small().modules()]
    assert kinds.count(nn.ConvTranspose2d) == 2  # one an upsampling: 4 to 8, 8 to 16
    assert not {nn.BatchNorm2d, nn.PixelShuffle} & set(kinds)
    assert not any("parametrizations" in name for name, _ in small().named_parameters())


def test_prepared_every_layer_has_unit_variance_on_the_faces_it_was_prepared_with():
    faces, model = smooth_faces(70), small()
    model.prepare(faces, seeded(1))
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            hooks.append(module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.var().item()})))
    generator = seeded(1)
    torch.randperm(len(faces), generator=generator)  # K-means' faces
    torch.randint(2**31, (1,), generator=generator)  # K-means' seed
    torch.randn(4, 8, generator=generator)  # the means on the sphere
    few = faces[torch.randperm(len(faces), generator=generator)[:64]]
    with torch.no_grad():
        model(few.image, boundary_map(few.landmarks, 16), torch.randn(64, 8, generator=generator))
    for hook in hooks:
        hook.remove()
    assert len(found) == sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) for m in model.modules())
    assert {name: v for name, v in found.items() if abs(v - 1) >= 0.1} == {}


def test_there_are_two_terms():
    faces, model = smooth_faces(70), small()
    model.prepare(faces, seeded(1))
    assert set(model.losses(model.draw(faces, 4, seeded(2)))) == {"pixels", "kl"}


def test_preparing_leaves_torchs_generator_alone():
    model, before = small(), torch.get_rng_state()
    model.prepare(smooth_faces(70), seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
