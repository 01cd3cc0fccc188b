"""Tiny real models, built with the real classes and saved as their users find them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tests.conftest import empty_cache

WORDS = "a photo of red blue green circle square dog bench cat two is above below depicts colored object - picture "


class InceptionStandIn(nn.Module):
    """The interface of the TorchScript file that StyleGAN and clean-fid use, with a network of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 24, 23, stride=23), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.output = nn.Linear(96, 10)

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        assert img.shape[1] == 3 and img.shape[2] == 299 and img.shape[3] == 299
        features = self.layers((img.to(torch.float32) - 128) / 128)
        if return_features:
            return features
        logits = features @ self.output.weight.t()
        if not no_output_bias:
            logits = logits + self.output.bias
        return torch.softmax(logits, dim=1)


def save_inception(path: Path) -> Path:
    torch.manual_seed(0)
    torch.jit.script(InceptionStandIn().eval()).save(str(path))
    return path


def save_clip(path: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(1)
    words = ["<|startoftext|>", "<|endoftext|>", "<unk>", *dict.fromkeys(w + "</w>" for w in WORDS.split())]
    letters = list("abcdefghijklmnopqrstuvwxyz-0123456789.,")
    entries = list(dict.fromkeys([*words, *letters, *(c + "</w>" for c in letters)]))
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(entries)}, merges=[], model_max_length=77)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**size, "vocab_size": len(entries), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**size, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_dinov2(path: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(2)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=56, image_size=224)
    Dinov2Model(config).save_pretrained(path)
    return path


def save_mask2former(path: Path, names: list[str]) -> Path:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(3)
    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=10,
        id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)},
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(path)
    return path


def save_pipeline(path: Path) -> Path:
    """A Stable Diffusion pipeline of 32 px, complete with VAE and CLIP text model."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(4)
    clip = save_clip(path / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, norm_num_groups=4, attention_head_dim=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        mid_block_add_attention=False,  # which was half of the time to draw
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(path / "pipeline")
    return path / "pipeline"


REWRITER_WORDS = (
    "<pad> <unk> <eos> <image> USER: ASSISTANT: Is there a dog red bench yes no Answer with or ? green . photo of"
)


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = {w: i for i, w in enumerate(REWRITER_WORDS.split())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=["<image>"], **special)


def save_rewriter(path: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    tokenizer = word_tokenizer()
    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer),
        bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def write_pictures(folder: Path, count: int, seed: int, side: int = 48, captions: bool = True) -> Path:
    """Smooth random pictures: two coloured bands each, with what they show as caption."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        top, bottom = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        mix = np.linspace(0, 1, side)[:, None, None] ** rng.uniform(0.5, 2)
        pixels = np.broadcast_to(top * (1 - mix) + bottom * mix, (side, side, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")
        if captions:
            shape = ("circle", "square", "dog")[i % 3]
            (folder / f"{i:03d}.txt").write_text(f"a {('red', 'blue', 'green')[i // 3 % 3]} {shape}")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[str, str]:
    """`--weights` of all tiny feature networks, in a folder of their own."""
    root = tmp_path_factory.mktemp("weights")
    clip = str(save_clip(root / "clip"))
    return {
        "inception": str(save_inception(root / "small.pt")),
        "clip": clip,
        "clip_336": clip,
        "dinov2": str(save_dinov2(root / "dinov2")),
    }


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """No test sees what another one, or the user, has cached."""
    cache = empty_cache(tmp_path)
    monkeypatch.setenv("DAYBREAK_CACHE", str(cache))
    return cache
