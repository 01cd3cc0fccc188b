"""Routing, and the transformer's options: what must be equal is equal to the bit, what must differ differs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.flops import forward_flops
from daybreak.model.routing import Fusion, put_back, sample_visible, take
from daybreak.model.transformer import Transformer
from daybreak.recipes import recipe

SMALL = {"width": 32, "depth": 4, "heads": 2, "patch": 4, "mlp_ratio": 2.0}
TEXT_WIDTH = 24


def build(routing: RoutingConfig | None = None, **model) -> Transformer:
    torch.manual_seed(0)
    network = Transformer(ModelConfig(**(SMALL | model)), TEXT_WIDTH, routing)
    with torch.no_grad():  # away from the initial values, at which blocks are the identity
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return network


def inputs(batch: int = 3, side: int = 16, length: int = 5):
    g = torch.Generator().manual_seed(1)
    mask = torch.arange(length)[None] < torch.tensor([length, 2, 1])[:batch, None]
    text = TextTokens(torch.randn(batch, length, TEXT_WIDTH, generator=g), mask)
    return torch.randn(batch, 3, side, side, generator=g), torch.tensor([0.1, 0.5, 0.9])[:batch], text


def test_visible_tokens_are_ascending_distinct_and_of_the_asked_share():
    visible = sample_visible(50, 64, 0.5, torch.Generator().manual_seed(0))
    assert visible.shape == (50, 32)
    assert (visible.diff(dim=1) > 0).all() and visible.min() >= 0 and visible.max() < 64
    counts = torch.bincount(visible.flatten(), minlength=64)
    assert counts.min() > 10 and counts.max() < 40  # each token stays in about half of the pictures


def test_keeping_all_draws_nothing():
    g = torch.Generator().manual_seed(3)
    before = g.get_state()
    assert sample_visible(2, 64, 1.0, g) is None
    assert torch.equal(g.get_state(), before)


def test_taking_and_putting_back_restores_the_order():
    x = torch.randn(2, 10, 4)
    visible = torch.tensor([[0, 3, 9], [1, 2, 5]])
    kept = take(x, visible)
    assert torch.equal(kept[1], x[1, [1, 2, 5]])
    back = put_back(2 * kept, x, visible)
    assert torch.equal(back[0, [0, 3, 9]], 2 * x[0, [0, 3, 9]])
    assert torch.equal(back[0, [1, 2, 4, 5, 6, 7, 8]], x[0, [1, 2, 4, 5, 6, 7, 8]])


@pytest.mark.parametrize("layout", [{}, {"layout": "joint", "modulation": "none"}])
def test_routing_every_token_is_bit_equal_to_no_routing(layout):
    network = build(RoutingConfig(keep=0.5, start=1, end=3), **layout)
    x, t, text = inputs()
    everyone = torch.arange(16).expand(3, -1)
    assert torch.equal(network(x, t, text).x0, network(x, t, text, everyone).x0)


def test_tokens_that_leave_skip_exactly_the_middle_blocks():
    """The same by hand: run the middle blocks on a picture's kept tokens alone."""
    network = build(RoutingConfig(keep=0.5, start=1, end=3))
    x, t, text = inputs()
    visible = sample_visible(3, 16, 0.5, torch.Generator().manual_seed(0))
    routed, dense = network(x, t, text, visible), network(x, t, text)
    assert not torch.allclose(routed.x0, dense.x0)
    seen = {}

    def watch(index):
        return lambda _module, args, output: seen.__setitem__(index, (args[0], output))

    handles = [b.register_forward_hook(watch(i)) for i, b in enumerate(network.blocks)]
    network(x, t, text, visible)
    for h in handles:
        h.remove()
    assert [seen[i][0].shape[1] for i in range(4)] == [16, 8, 8, 16]
    returned, before = seen[3][0], seen[0][1]
    for row in range(3):
        gone = [i for i in range(16) if i not in visible[row].tolist()]
        assert torch.equal(returned[row, gone], before[row, gone])
        assert torch.equal(returned[row, visible[row]], seen[2][1][row])


def test_features_say_which_tokens_they_are():
    network = build(RoutingConfig(keep=0.5, start=1, end=3))
    x, t, text = inputs()
    visible = sample_visible(3, 16, 0.5, torch.Generator().manual_seed(0))
    for layer, tokens in ((1, 16), (2, 8), (3, 8), (4, 16)):
        out = network(x, t, text, visible, feature_layer=layer)
        assert out.features.shape == (3, tokens, 32)
        assert (out.visible is not None) == (tokens == 8)
    assert network(x, t, text, visible).features is None


def test_sprint_fuses_what_left_with_what_stayed():
    network = build(RoutingConfig(method="sprint", keep=0.25, start=1, end=3))
    x, t, text = inputs()
    visible = sample_visible(3, 16, 0.25, torch.Generator().manual_seed(0))
    whole = network(x, t, text).x0
    sparse = network(x, t, text, visible).x0
    dropped = network(x, t, text, visible, None, torch.tensor([True, False, True])).x0
    assert not torch.allclose(whole, sparse)
    assert torch.equal(dropped[1], sparse[1]) and not torch.allclose(dropped[0], sparse[0])


def test_a_new_fusion_is_the_mean():
    fusion = Transformer(ModelConfig(**SMALL), TEXT_WIDTH, RoutingConfig(method="sprint")).fusion
    assert isinstance(fusion, Fusion)
    a, b = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    assert torch.allclose(fusion(a, b, None, None), (a + b) / 2, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"modulation": "shared", "text_blocks": 1},
                                     {"layout": "joint", "modulation": "none"}])  # fmt: skip
def test_recomputing_gives_the_same_gradients(options):
    visible = sample_visible(3, 16, 0.5, torch.Generator().manual_seed(0))
    gradients = []
    for recompute in (False, True):
        network = build(RoutingConfig(keep=0.5, start=1, end=3), recompute=recompute, **options)
        x, t, text = inputs()
        network(x, t, text, visible).x0.square().sum().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_routing_compiles_without_a_graph_break():
    network = build(RoutingConfig(keep=0.5, start=1, end=2), depth=3)  # a block before, in and after the middle
    x, t, text = inputs()
    visible = sample_visible(3, 16, 0.5, torch.Generator().manual_seed(0))
    expected = network(x, t, text, visible, 2)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    got = compiled(x, t, text, visible, 2)
    assert torch.allclose(got.x0, expected.x0, atol=1e-5)
    assert torch.allclose(got.features, expected.features, atol=1e-5)


def test_text_blocks_ignore_padding():
    network = build(text_blocks=2)
    x, t, text = inputs()
    more = TextTokens(torch.cat([text.embeddings, torch.randn(3, 4, TEXT_WIDTH)], 1),
                      torch.cat([text.mask, torch.zeros(3, 4, dtype=torch.bool)], 1))  # fmt: skip
    assert torch.allclose(network(x, t, text).x0, network(x, t, more).x0, atol=1e-5)


def test_a_joint_network_is_told_no_time_and_ignores_padding():
    network = build(layout="joint", modulation="none")
    x, t, text = inputs()
    assert torch.equal(network(x, t, text).x0, network(x, 1 - t, text).x0)
    more = TextTokens(torch.cat([text.embeddings, torch.randn(3, 4, TEXT_WIDTH)], 1),
                      torch.cat([text.mask, torch.zeros(3, 4, dtype=torch.bool)], 1))  # fmt: skip
    assert torch.allclose(network(x, t, text).x0, network(x, t, more).x0, atol=1e-5)


def test_shared_modulation_has_fewer_parameters_and_listens_to_the_time():
    own, shared = build(), build(modulation="shared")
    counts = [sum(p.numel() for p in n.parameters()) for n in (own, shared)]
    assert counts[0] - counts[1] == 3 * (6 * 32 * 32 + 6 * 32) - 4 * 6 * 32
    x, t, text = inputs()
    assert not torch.allclose(shared(x, t, text).x0, shared(x, 1 - t, text).x0)


def test_a_velocity_becomes_a_clean_picture():
    """With the output at zero the velocity is 0, so the clean picture is the noisy one."""
    network = build(predicts="velocity")
    torch.nn.init.zeros_(network.final.weight)
    torch.nn.init.zeros_(network.final.bias)
    x, t, text = inputs()
    assert torch.allclose(network(x, t, text).x0, x)


@pytest.mark.parametrize(
    ("routing", "options"),
    [
        (RoutingConfig(), {}),
        (RoutingConfig(), {"bottleneck": 16, "size_conditioning": True}),
        (RoutingConfig(keep=0.5, start=1, end=3), {"modulation": "shared", "text_blocks": 2}),
        (RoutingConfig(keep=0.25, start=1, method="sprint"), {}),
        (RoutingConfig(), {"layout": "joint", "modulation": "none", "text_blocks": 1}),
        (RoutingConfig(), {"layout": "joint", "pooled_text": True}),
        (RoutingConfig(), {"convolutions": (8, 12), "text_convolutions": 2, "pooled_text": True, "grounding": True}),
        (RoutingConfig(keep=0.5, start=1, end=3), {"grounding": True, "text_convolutions": 1}),
        (RoutingConfig(), vars(recipe("scenes-demo").model)),
        (RoutingConfig(), {"detail": 8}),
    ],
)
def test_the_account_of_flops_is_torchs(routing, options):
    network = build(routing, **options)
    text = TextTokens(torch.randn(1, 7, TEXT_WIDTH), torch.ones(1, 7, dtype=torch.bool), padded=False)
    visible = sample_visible(1, 16, routing.keep, torch.Generator().manual_seed(0))
    # torch's table leaves out the attention kernel of the CPU.
    fused = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    }
    counter = FlopCounterMode(display=False, custom_mapping=fused)
    with counter, torch.no_grad():
        network(torch.randn(1, 3, 16, 16), torch.tensor([0.5]), text, visible)
    ours = forward_flops(network.config, routing, TEXT_WIDTH, (4, 4), 7)
    assert sum(ours.values()) == counter.get_total_flops()
