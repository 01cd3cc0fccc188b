"""The names under which other programs know the layers of published models, written down from their loaders.

Of a layer X of a UNet, kohya's scripts write `lora_unet_X` with _ for every dot, and ComfyUI's `model_lora_keys_unet`,
A1111's `convert_diffusers_name_to_compvis` and Forge map it; ComfyUI also maps `unet.X` with `.processor` before
`.to_`, and `to_out` for `to_out.0`. In the tables `{a,b}` stands for each in turn, `{0-9}` for each number. Read in
November 2026.
"""

import itertools
import re

ATTENTION = "{proj_in,proj_out,transformer_blocks.DEPTH.{{attn1,attn2}.{to_q,to_k,to_v,to_out.0},ff.net.{0.proj,2}}}"
RESNET = "{conv1,conv2,time_emb_proj}"
SD1 = [
    "down_blocks.{0-2}.attentions.{0,1}." + ATTENTION.replace("DEPTH", "0"),
    "mid_block.attentions.0." + ATTENTION.replace("DEPTH", "0"),
    "up_blocks.{1-3}.attentions.{0-2}." + ATTENTION.replace("DEPTH", "0"),
    "down_blocks.{0-3}.resnets.{0,1}." + RESNET,
    "mid_block.resnets.{0,1}." + RESNET,
    "up_blocks.{0-3}.resnets.{0-2}." + RESNET,
    "down_blocks.{1,2}.resnets.0.conv_shortcut",
    "up_blocks.{0-3}.resnets.{0-2}.conv_shortcut",
    "down_blocks.{0-2}.downsamplers.0.conv",
    "up_blocks.{0-2}.upsamplers.0.conv",
    "{conv_in,conv_out,time_embedding.linear_1,time_embedding.linear_2}",
]
SDXL = [
    "down_blocks.1.attentions.{0,1}." + ATTENTION.replace("DEPTH", "{0,1}"),
    "down_blocks.2.attentions.{0,1}." + ATTENTION.replace("DEPTH", "{0-9}"),
    "mid_block.attentions.0." + ATTENTION.replace("DEPTH", "{0-9}"),
    "up_blocks.0.attentions.{0-2}." + ATTENTION.replace("DEPTH", "{0-9}"),
    "up_blocks.1.attentions.{0-2}." + ATTENTION.replace("DEPTH", "{0,1}"),
    "down_blocks.{0-2}.resnets.{0,1}." + RESNET,
    "mid_block.resnets.{0,1}." + RESNET,
    "up_blocks.{0-2}.resnets.{0-2}." + RESNET,
    "down_blocks.{1,2}.resnets.0.conv_shortcut",
    "up_blocks.{0-2}.resnets.{0-2}.conv_shortcut",
    "down_blocks.{0,1}.downsamplers.0.conv",
    "up_blocks.{0,1}.upsamplers.0.conv",
    "{conv_in,conv_out,{time,add}_embedding.linear_{1,2}}",
]
JOINT = "attn.{to_q,to_k,to_v,to_out.0,add_q_proj,add_k_proj,add_v_proj}"
SD3 = [  # the medium size
    "transformer_blocks.{0-23}.{norm1.linear,norm1_context.linear,ff.net.0.proj,ff.net.2}",
    "transformer_blocks.{0-23}." + JOINT,
    "transformer_blocks.{0-22}.{attn.to_add_out,ff_context.net.0.proj,ff_context.net.2}",
    "time_text_embed.{timestep_embedder,text_embedder}.linear_{1,2}",
    "{pos_embed.proj,context_embedder,norm_out.linear,proj_out}",
]
FLUX = [  # dev
    "transformer_blocks.{0-18}.{norm1.linear,norm1_context.linear,ff.net.0.proj,ff.net.2}",
    "transformer_blocks.{0-18}." + JOINT,
    "transformer_blocks.{0-18}.{attn.to_add_out,ff_context.net.0.proj,ff_context.net.2}",
    "single_transformer_blocks.{0-37}.{norm.linear,proj_mlp,proj_out,attn.to_q,attn.to_k,attn.to_v}",
    "time_text_embed.{timestep_embedder,guidance_embedder,text_embedder}.linear_{1,2}",
    "{x_embedder,context_embedder,norm_out.linear,proj_out}",
]
CLIP_L = ["text_model.encoder.layers.{0-11}.self_attn.{q_proj,k_proj,v_proj,out_proj}"]
CLIP_G = ["text_model.encoder.layers.{0-31}.self_attn.{q_proj,k_proj,v_proj,out_proj}"]

ORIGINAL_RESNET = "{in_layers.2,emb_layers.1,out_layers.3}"
ORIGINAL_SD1 = [
    "input_blocks.{1,2,4,5,7,8}.1." + ATTENTION.replace("DEPTH", "0"),
    "middle_block.1." + ATTENTION.replace("DEPTH", "0"),
    "output_blocks.{3-11}.1." + ATTENTION.replace("DEPTH", "0"),
    "input_blocks.{1,2,4,5,7,8,10,11}.0." + ORIGINAL_RESNET,
    "middle_block.{0,2}." + ORIGINAL_RESNET,
    "output_blocks.{0-11}.0." + ORIGINAL_RESNET,
    "input_blocks.{4,7}.0.skip_connection",
    "output_blocks.{0-11}.0.skip_connection",
    "input_blocks.{3,6,9}.0.op",
    "{output_blocks.2.1,output_blocks.5.2,output_blocks.8.2}.conv",
    "{input_blocks.0.0,out.2,time_embed.0,time_embed.2}",
]
"""As in CompVis' v1-inference.yaml and openaimodel.py, and in the published checkpoints."""
ORIGINAL_SDXL = [
    "input_blocks.{4,5}.1." + ATTENTION.replace("DEPTH", "{0,1}"),
    "input_blocks.{7,8}.1." + ATTENTION.replace("DEPTH", "{0-9}"),
    "middle_block.1." + ATTENTION.replace("DEPTH", "{0-9}"),
    "output_blocks.{0-2}.1." + ATTENTION.replace("DEPTH", "{0-9}"),
    "output_blocks.{3-5}.1." + ATTENTION.replace("DEPTH", "{0,1}"),
    "input_blocks.{1,2,4,5,7,8}.0." + ORIGINAL_RESNET,
    "middle_block.{0,2}." + ORIGINAL_RESNET,
    "output_blocks.{0-8}.0." + ORIGINAL_RESNET,
    "input_blocks.{4,7}.0.skip_connection",
    "output_blocks.{0-8}.0.skip_connection",
    "input_blocks.{3,6}.0.op",
    "{output_blocks.2.2,output_blocks.5.2}.conv",
    "{input_blocks.0.0,out.2,time_embed.0,time_embed.2,label_emb.0.0,label_emb.0.2}",
]
"""As in Stability's sd_xl_base.yaml."""

ENDS = {
    "kohya": ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale"),
    "unet": ("lora.down.weight", "lora.up.weight"),
    "transformer": ("lora_A.weight", "lora_B.weight"),
    "text": ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
}
"""After the name of a layer: kohya's; ComfyUI's for what diffusers writes, by network."""


def kohya(table, prefix):
    known = {"add_embedding.linear_1": "label_emb_0_0", "add_embedding.linear_2": "label_emb_0_2"}  # as SDXL's authors
    return {prefix + known.get(name, name).replace(".", "_") for name in names(table)}


def comfy(table, prefix):
    """Up to the end: `X.lora`, or, of an attention of a UNet, `X_lora`."""
    if prefix != "unet.":
        return {prefix + name for name in names(table)}
    renamed = (re.sub(r"\.(to_[a-z]+)(\.0)?$", r".processor.\1", name) for name in names(table))
    return {prefix + name for name in renamed}


def names(table):
    return list(itertools.chain.from_iterable(map(expand, table)))


def expand(pattern):
    """All names that a pattern stands for; the innermost braces are opened first."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)-(\d+)", found[1])
    choices = range(int(numbers[1]), int(numbers[2]) + 1) if numbers else found[1].split(",")
    opened = (pattern[: found.start()] + str(choice) + pattern[found.end() :] for choice in choices)
    return list(dict.fromkeys(name for one in opened for name in expand(one)))


def layers(keys, ends):
    """What stands before the ends; each key must have one of them."""
    found = {}
    for key in keys:
        end = next((e for e in ends if re.search(rf"[._]{re.escape(e)}$", key)), None)
        assert end is not None, key
        found.setdefault(key[: -len(end) - 1], set()).add(end)
    return found
