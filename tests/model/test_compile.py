"""Each network of a step is one graph: torch.compile finds nothing that it would have to leave to Python.

The graph is traced and then run as it is (`eager`), which needs no compiler; what breaks a graph is the same.
test_routing.py has the plain model with routed tokens.
"""

import pytest
import torch
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.encoders.vision import _KINDS, TransformersTeacher
from daybreak.losses import perceptual
from daybreak.losses.perceptual import LPIPS, VGG16Features
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer

SMALL = {"width": 32, "depth": 3, "heads": 2, "patch": 4, "mlp_ratio": 2.0, "bottleneck": 8}


@pytest.mark.parametrize(
    ("model", "routing"),
    [
        ({"layout": "joint", "modulation": "none", "text_blocks": 1}, RoutingConfig(keep=0.5, start=1)),
        ({"detail": 8, "predicts": "velocity"}, RoutingConfig(keep=0.5, start=1)),
        ({"modulation": "shared"}, RoutingConfig(keep=0.25, start=1, method="sprint")),
        (
            {
                "bottleneck": None,
                "convolutions": (8, 12),
                "text_convolutions": 1,
                "pooled_text": True,
                "grounding": True,
            },
            RoutingConfig(keep=0.5, start=1),
        ),
    ],
)
def test_the_transformer_is_one_graph(model, routing):
    torch.manual_seed(0)
    network = Transformer(ModelConfig(**(SMALL | model)), 24, routing)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    text = TextTokens(torch.randn(2, 5, 24), mask)
    x_t, t = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.7])
    visible = sample_visible(2, 16, routing.keep, torch.Generator().manual_seed(0))
    results = []
    for call in (network, torch.compile(network, backend="eager", fullgraph=True)):
        network.zero_grad()
        made = call(x_t, t, text, visible, 2)
        (made.x0.square().mean() + made.features.square().mean()).backward()
        results.append([made.x0.detach(), made.features.detach(), *(p.grad for p in network.parameters())])
    assert all((a is None) == (b is None) for a, b in zip(*results, strict=True))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*results, strict=True) if a is not None)


def test_the_losses_networks_are_one_graph_each(monkeypatch):
    monkeypatch.setattr(perceptual, "VGG16", [c if c == "pool" else c // 32 for c in perceptual.VGG16])
    torch.manual_seed(0)
    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=4, image_size=16, num_register_tokens=1
    )
    teacher = TransformersTeacher(Dinov2WithRegistersModel(config), _KINDS[config.model_type])
    lpips = LPIPS(VGG16Features(), [torch.rand(c) for c in (2, 4, 8, 16, 16)])
    images, others = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    for network, arguments in ((teacher, (images, (24, 24))), (lpips, (images, others.detach()))):
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        assert torch.allclose(network(*arguments), compiled(*arguments), atol=1e-5)


def test_a_compiled_transformer_reads_remembered_text():
    torch.manual_seed(0)
    network = Transformer(ModelConfig(**SMALL), 24)
    torch.nn.init.normal_(network.final.weight)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for seed in range(2):  # a second set of captions is not taken for the first
        g = torch.Generator().manual_seed(seed)
        text = TextTokens(torch.randn(1, 5, 24, generator=g), torch.ones(1, 5, dtype=torch.bool), padded=False)
        remembered = text.remembered()
        for t in (0.9, 0.4):
            x_t, time = torch.randn(1, 3, 16, 16, generator=g), torch.tensor([t])
            with torch.no_grad():
                assert torch.allclose(compiled(x_t, time, remembered).x0, network(x_t, time, text).x0, atol=1e-5)
