"""Convolutional pieces against their definitions written out; LSUV against the variances it promises."""
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from facelab.blocks import AppearanceEncoder, Decoder, StructureEncoder, convolution, lsuv_
from facelab.blocks.layers import NORMS, UPSAMPLINGS, Pyramid, Residual, shrink_
from facelab.core import ShapeError


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("arguments", "side"), [({}, 8), ({"kernel": 4, "stride": 2}, 4), *(({"up": up}, 16) for up in UPSAMPLINGS)])
def test_sides_and_channels(norm, arguments, side):
    assert convolution(3, 5, norm=norm, **arguments)(torch.randn(2, 3, 8, 8)).shape == (2, 5, side, side)


@pytest.mark.parametrize("arguments", [{"norm": "layer"}, {"up": "bilinear"}, {"norm": None}])
def test_an_unknown_kind_is_named(arguments):
    with pytest.raises(ShapeError, match="weight.*batch.*subpixel"):
        convolution(3, 5, **arguments)


def test_a_pyramid_looks_at_pictures_of_any_size_and_names_who_looks():
    class Owl(Pyramid):
        name = "owl"

    owl = Owl(32, 4).eval()
    for side in (32, 48):
        deepest, top = owl.climb(torch.randn(2, 3, side, side))
        assert deepest.shape == (2, 24, 2, 2) and deepest[0].numel() == owl.flat and top.shape == (2, owl.across, 16, 16)
    for wrong in (torch.zeros(2, 3, 32, 31), torch.zeros(2, 1, 32, 32), torch.zeros(3, 32, 32)):
        with pytest.raises(ShapeError, match="the owl looks at square pictures"):
            owl.climb(wrong)


def test_subpixel_lays_four_channels_out_as_a_block():
    layer, x = convolution(3, 5, up="subpixel", active=False), torch.randn(2, 3, 6, 6)
    nn.init.normal_(layer[0].weight)
    values, made = layer[0](x), layer(x)
    by_hand = torch.empty(2, 5, 12, 12)
    for channel in range(5):
        for i in range(2):
            for j in range(2):
                by_hand[:, channel, i::2, j::2] = values[:, 4 * channel + 2 * i + j]
    assert torch.equal(made, by_hand)


@pytest.mark.parametrize("norm", ["weight", "none"])
def test_subpixel_starts_as_nearest_neighbour_upsampling(norm):
    layer, x = convolution(3, 5, up="subpixel", norm=norm, active=False), torch.randn(2, 3, 6, 6)
    small = F.conv2d(x, layer[0].weight[::4], layer[0].bias[::4], padding=1)
    torch.testing.assert_close(layer(x), F.interpolate(small, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("up", [None, *UPSAMPLINGS])
def test_a_filter_is_a_length_times_a_direction(up):
    layer = convolution(3, 5, norm="weight", up=up)[0]
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    filters = 1 if up == "transposed" else 0  # where a transposed convolution keeps its output channels

    def lengths(w):
        return w.transpose(0, filters).flatten(1).norm(dim=1)

    assert g.numel() == layer.weight.shape[filters]
    torch.testing.assert_close(layer.weight, g * v / lengths(v).view_as(g))
    with torch.no_grad():
        v.mul_(3)
    torch.testing.assert_close(lengths(layer.weight), g.flatten())  # the length of v says nothing


@pytest.mark.parametrize("up", [None, *UPSAMPLINGS])
def test_a_fresh_layer_keeps_the_second_moment(up):
    x = torch.randn(8, 64, 16, 16)
    after = convolution(64, 64, up=up)(x)[..., 2:-2, 2:-2]
    assert 0.8 < after.square().mean() < 1.25


@pytest.mark.parametrize("norm", NORMS)
def test_batch_normalisation_only_where_it_is_asked_for(norm):
    layers = [*convolution(3, 5, norm=norm, up="subpixel"), *convolution(3, 5, norm=norm, active=False)]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == (norm == "batch")
    assert sum(hasattr(layer, "parametrizations") for layer in layers) == 2 * (norm == "weight")


@pytest.mark.parametrize("norm", ["weight", "none"])
def test_shrinking_scales_a_weight(norm):
    layer = convolution(3, 5, norm=norm)[0]
    before = layer.weight.detach().clone()
    shrink_(layer, 0.1)
    torch.testing.assert_close(layer.weight, 0.1 * before)


def test_a_fresh_residual_changes_little_and_a_silent_one_nothing():
    block, x = Residual(16, "weight"), torch.randn(4, 16, 8, 8)
    plain = F.leaky_relu(x, 0.2)
    assert 0 < (block(x) - plain).square().mean() < 0.05 * plain.square().mean()
    shrink_(block.second[0], 0.0)
    torch.testing.assert_close(block(x), plain)


def test_appearance_encoder_counts_in_units():
    torch.manual_seed(1)
    plain = AppearanceEncoder([8, 16, 16], 6, "none")
    torch.manual_seed(1)
    tenth = AppearanceEncoder([8, 16, 16], 6, "none", unit=0.1)
    image = torch.rand(3, 3, 32, 32) * 2 - 1
    (mean, log_var), (small_mean, small_log_var) = plain(image), tenth(image)
    assert mean.shape == log_var.shape == (3, 6)
    torch.testing.assert_close(small_mean, 0.1 * mean)
    torch.testing.assert_close((small_log_var / 2).exp(), 0.1 * (log_var / 2).exp())
    with torch.no_grad():
        plain.head.bias[6:] = torch.tensor([1e9, -1e9, 0, 0, 0, 0])
    assert plain(image)[1].exp().isfinite().all()


@pytest.mark.parametrize("side", [16, 32, 128])
def test_structure_maps_halve_down_to_four(side):
    widths = [8] * ((side // 8).bit_length())
    maps = StructureEncoder(widths, "none")(torch.rand(2, 1, side, side))
    assert [m.shape[-1] for m in maps] == [side // 2**i for i in range(len(widths) + 1)]
    assert maps[-1].shape[-1] == 4


@pytest.mark.parametrize("up", UPSAMPLINGS)
def test_decoder_hears_its_code_and_every_skip(up):
    decoder = Decoder([8, 16, 16], [1, 8, 8], 6, "none", up)
    code = torch.randn(2, 6)
    maps = [torch.randn(2, c, s, s, requires_grad=True) for c, s in ((1, 16), (8, 8), (8, 4))]
    made = decoder(code.requires_grad_(), maps)
    assert made.shape == (2, 3, 16, 16) and made.abs().max() <= 1
    made.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in [code, *maps])


def test_decoder_takes_a_code_in_units():
    torch.manual_seed(1)
    plain = Decoder([8, 16], [4, 8], 6, "none", "subpixel")
    torch.manual_seed(1)
    tenth = Decoder([8, 16], [4, 8], 6, "none", "subpixel", unit=0.1)
    code, maps = torch.randn(2, 6), [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    torch.testing.assert_close(tenth(0.1 * code, maps), plain(code, maps))


# --- LSUV ------------------------------------------------------------------------------------------------------------------------

class Backwards(nn.Module):
    """Layers run in another order than they are defined in, and a skip runs round two of them."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8 * 16, 10)
        self.up = nn.ConvTranspose2d(16, 4, 4, stride=2, padding=1)
        self.second = nn.Conv2d(4, 16, 4, stride=2, padding=1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        skip = F.relu(self.first(x))
        x = F.relu(self.up(F.relu(self.second(skip))))
        return self.last(F.adaptive_avg_pool2d(torch.cat([x, skip], 1), 4).flatten(1))


def variances(network, *inputs):
    """Output variance of every convolution and linear layer, in the order in which they run."""
    found, hooks = {}, []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            hooks.append(module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.var().item()})))
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def test_lsuv_gives_every_layer_variance_one_in_the_order_of_running():
    network, x = Backwards(), 5 * torch.randn(16, 3, 8, 8)
    before = variances(network, x)
    assert list(before) == ["first", "second", "up", "last"] != [name for name, _ in network.named_children()]
    assert max(abs(v - 1) for v in before.values()) > 0.5
    assert lsuv_(network, x) == 4
    assert all(abs(v - 1) < 0.1 for v in variances(network, x).values())


def test_lsuv_keeps_orthonormal_directions():
    network, x = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)), torch.randn(16, 3, 8, 8)
    lsuv_(network, x, tolerance=0.01)
    for layer in (network[0], network[2]):
        rows = layer.weight.detach().flatten(1)
        gram = rows @ rows.T
        torch.testing.assert_close(gram / gram[0, 0], torch.eye(8), atol=1e-5, rtol=0)


def test_lsuv_leaves_a_layer_of_constant_output_orthonormal_and_no_hooks():
    network = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    lsuv_(network, torch.zeros(4, 6))
    torch.testing.assert_close(network[1].weight @ network[1].weight.T, torch.eye(6), atol=1e-5, rtol=0)
    assert not any(module._forward_hooks for module in network.modules())


def test_lsuv_refuses_a_weight_that_is_computed():
    with pytest.raises(ShapeError, match="weight normalisation"):
        lsuv_(convolution(3, 5, norm="weight"), torch.randn(2, 3, 8, 8))
