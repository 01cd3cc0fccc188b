"""Which layer of a network a name in an adapter file means, whoever wrote the file.

Most trainers use diffusers' names, with dots (diffusers, peft, ai-toolkit) or with _ in their place (kohya's scripts,
LyCORIS, OneTrainer). Some use those of the model's authors, where queries, keys and values may be one layer: of SDXL,
SD 3 and FLUX.1 kohya's scripts, of FLUX.2 and Z-Image ComfyUI's own. Read in November 2026 in those programs' writers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from torch import nn

from daybreak.finetune.updates import Rows
from daybreak.formats.original_keys import unet_key

DENOISERS = ("unet", "transformer")
PREFIXES = (
    "lora_unet_", "lora_transformer_", "lycoris_", "model.diffusion_model.", "diffusion_model.", "base_model.model.",
    "unet.", "transformer.", "",
)  # fmt: skip
"""What may stand before a layer of the denoiser; of peft and bare names, where only one network was trained."""
SWAPPED = "~"
"""Before a layer whose two halves diffusers has in the other order: shift and scale."""
FLUX = {
    "double_blocks.N.img_attn.qkv": "transformer_blocks.N.attn.to_q transformer_blocks.N.attn.to_k "
    "transformer_blocks.N.attn.to_v",
    "double_blocks.N.txt_attn.qkv": "transformer_blocks.N.attn.add_q_proj transformer_blocks.N.attn.add_k_proj "
    "transformer_blocks.N.attn.add_v_proj",
    "double_blocks.N.img_attn.proj": "transformer_blocks.N.attn.to_out.0",
    "double_blocks.N.txt_attn.proj": "transformer_blocks.N.attn.to_add_out",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": f"{SWAPPED}norm_out.linear",
}
"""As Black Forest Labs name what FLUX.1, FLUX.2 and Chroma have in common; N: the block."""
FLUX1 = FLUX | {
    "double_blocks.N.img_mlp.0": "transformer_blocks.N.ff.net.0.proj",
    "double_blocks.N.img_mlp.2": "transformer_blocks.N.ff.net.2",
    "double_blocks.N.txt_mlp.0": "transformer_blocks.N.ff_context.net.0.proj",
    "double_blocks.N.txt_mlp.2": "transformer_blocks.N.ff_context.net.2",
    "double_blocks.N.img_mod.lin": "transformer_blocks.N.norm1.linear",
    "double_blocks.N.txt_mod.lin": "transformer_blocks.N.norm1_context.linear",
    "single_blocks.N.linear1": "single_transformer_blocks.N.attn.to_q single_transformer_blocks.N.attn.to_k "
    "single_transformer_blocks.N.attn.to_v single_transformer_blocks.N.proj_mlp",
    "single_blocks.N.linear2": "single_transformer_blocks.N.proj_out",
    "single_blocks.N.modulation.lin": "single_transformer_blocks.N.norm.linear",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "distilled_guidance_layer.layers.N.in_layer": "distilled_guidance_layer.layers.N.linear_1",
    "distilled_guidance_layer.layers.N.out_layer": "distilled_guidance_layer.layers.N.linear_2",
}
FLUX2 = FLUX | {
    "double_blocks.N.img_mlp.0": "transformer_blocks.N.ff.linear_in",
    "double_blocks.N.img_mlp.2": "transformer_blocks.N.ff.linear_out",
    "double_blocks.N.txt_mlp.0": "transformer_blocks.N.ff_context.linear_in",
    "double_blocks.N.txt_mlp.2": "transformer_blocks.N.ff_context.linear_out",
    "single_blocks.N.linear1": "single_transformer_blocks.N.attn.to_qkv_mlp_proj",
    "single_blocks.N.linear2": "single_transformer_blocks.N.attn.to_out",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
}
SD3 = {
    "joint_blocks.N.x_block.attn.qkv": "transformer_blocks.N.attn.to_q transformer_blocks.N.attn.to_k "
    "transformer_blocks.N.attn.to_v",
    "joint_blocks.N.context_block.attn.qkv": "transformer_blocks.N.attn.add_q_proj "
    "transformer_blocks.N.attn.add_k_proj transformer_blocks.N.attn.add_v_proj",
    "joint_blocks.N.x_block.attn2.qkv": "transformer_blocks.N.attn2.to_q transformer_blocks.N.attn2.to_k "
    "transformer_blocks.N.attn2.to_v",
    "joint_blocks.N.x_block.attn.proj": "transformer_blocks.N.attn.to_out.0",
    "joint_blocks.N.x_block.attn2.proj": "transformer_blocks.N.attn2.to_out.0",
    "joint_blocks.N.context_block.attn.proj": "transformer_blocks.N.attn.to_add_out",
    "joint_blocks.N.x_block.mlp.fc1": "transformer_blocks.N.ff.net.0.proj",
    "joint_blocks.N.x_block.mlp.fc2": "transformer_blocks.N.ff.net.2",
    "joint_blocks.N.context_block.mlp.fc1": "transformer_blocks.N.ff_context.net.0.proj",
    "joint_blocks.N.context_block.mlp.fc2": "transformer_blocks.N.ff_context.net.2",
    "joint_blocks.N.x_block.adaLN_modulation.1": "transformer_blocks.N.norm1.linear",
    "joint_blocks.N.context_block.adaLN_modulation.1": "transformer_blocks.N.norm1_context.linear",
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": f"{SWAPPED}norm_out.linear",
}
Z_IMAGE = {
    f"{blocks}.N.attention.{theirs}": " ".join(f"{blocks}.N.attention.{name}" for name in ours)
    for blocks in ("layers", "noise_refiner", "context_refiner")
    for theirs, ours in (("qkv", ("to_q", "to_k", "to_v")), ("out", ("to_out.0",)))
}
AUTHORS: dict[str, dict[str, str]] = {
    "FluxTransformer2DModel": FLUX1,
    "ChromaTransformer2DModel": FLUX1,
    "Flux2Transformer2DModel": FLUX2,
    "SD3Transformer2DModel": SD3,
    "ZImageTransformer2DModel": Z_IMAGE,
}
"""Their names to diffusers', by the class of the network."""


@dataclass(frozen=True)
class Place:
    """A layer of the base; rows: which of the outputs of the layer in the file are its, and how many there are."""

    layer: str
    rows: Rows | None = None
    outputs: int = 0


def places(network: Any) -> dict[str, list[Place]]:
    """What each name, with _ for every dot, means in a network."""
    layers = {n.removesuffix(".base_layer"): m for n, m in network.named_modules() if _adaptable(n, m)}
    found = {name.replace(".", "_"): [Place(name)] for name in layers}
    for name in layers:
        found.setdefault(f"text_model_{name.replace('.', '_')}", [Place(name)])  # transformers 4 has this level
        if name.endswith(".to_out.0"):  # diffusers once had none below it
            found.setdefault(name.removesuffix(".0").replace(".", "_"), [Place(name)])
    if type(network).__name__ == "UNet2DConditionModel":
        for name in layers:
            try:
                found.setdefault(unet_key(name, network.config).replace(".", "_"), [Place(name)])
            except KeyError:
                continue
    for theirs, ours in AUTHORS.get(type(network).__name__, {}).items():
        for block in itertools.count() if ".N." in theirs else (0,):
            names = [n.replace(".N.", f".{block}.") for n in ours.split()]
            if not all(n.removeprefix(SWAPPED) in layers for n in names):
                break
            flat = theirs.replace(".N.", f".{block}.").replace(".", "_")
            found.setdefault(flat, _fused(names, layers))
    return found


def _fused(names: list[str], layers: dict[str, Any]) -> list[Place]:
    """The parts of a layer that is one in the file and several here."""
    sizes = [len(layers[n.removeprefix(SWAPPED)].weight) for n in names]
    ends = list(itertools.accumulate(sizes))
    first = layers[names[0].removeprefix(SWAPPED)].weight
    last_context = names[0].endswith("norm1_context.linear") and len(first) == 2 * first.shape[1]  # SD 3's last block
    if names[0].startswith(SWAPPED) or last_context:
        half = sizes[0] // 2
        return [Place(names[0].removeprefix(SWAPPED), ((half, sizes[0]), (0, half)), sizes[0])]
    if len(names) == 1:
        return [Place(names[0])]
    return [Place(name, ((end - size, end),), ends[-1]) for name, size, end in zip(names, sizes, ends, strict=True)]


def _adaptable(name: str, module: nn.Module) -> bool:
    inside = ".lora_" in name or ".hada_" in name or ".lokr_" in name  # peft's own parts
    return isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)) and not inside


def prefixes(part: str) -> tuple[str, ...]:
    """What may stand in a file before the layers of a network, which has this name in the pipeline."""
    own = (f"{part}.base_model.model.", f"{part}.")
    if part in DENOISERS:
        return (*own, *PREFIXES)
    number = part.removeprefix("text_encoder").removeprefix("_") or "1"
    kohya = (f"lora_te{number}_", "lora_te_") if number == "1" else (f"lora_te{number}_",)
    comfy = {"1": ("text_encoders.clip_l.transformer.",), "2": ("text_encoders.clip_g.transformer.",)}
    return (*own, *kohya, *comfy.get(number, ()))
