from dataclasses import replace
from typing import Any

import pytest
import torch

from daybreak.config import ConfigError, ModelConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.transformer import Transformer

SMALL = ModelConfig(width=96, heads=3, depth=4, mlp_ratio=2.5, patch=4)


def words(batch: int) -> TextTokens:
    return TextTokens(torch.randn(batch, 8, 96), torch.ones(batch, 8, dtype=torch.bool), padded=False)


def test_the_identity_start_predicts_the_noisy_picture_scaled() -> None:
    torch.manual_seed(0)
    model = Transformer(replace(SMALL, start="identity"), 96)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        first = model(x, torch.tensor([0.2, 0.9]), words(2)).x0
    scale = float((first * x).sum() / (x * x).sum())
    assert 0.3 < scale < 0.5
    assert float((first - scale * x).std()) < 0.1 * float(x.std())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "identity", "patch": 8}, "model.start identity needs model.width above a patch's 192 values"),
        ({"start": "identity", "bottleneck": 32}, "no bottleneck; width is 96, bottleneck 32"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Transformer(replace(SMALL, **changes), 96)
