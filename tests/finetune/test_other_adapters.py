"""Adapter files of other programs: each layout, written here as its program writes it, draws what it says."""

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import AdapterFile, adapters_for, parse_adapter
from daybreak.finetune.adapter_reading import read
from daybreak.finetune.bases import open_base
from daybreak.finetune.loras import add_to_pipeline
from daybreak.finetune.result import open_pipeline

BASES = {"sd": tiny.save_sd, "sdxl": tiny.save_sdxl, "sd3": tiny.save_sd3, "flux": tiny.save_flux}
R = 2


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: save(folder / name) for name, save in BASES.items()}


def noise(*shape, seed=[0]):  # noqa: B006 - each call draws other numbers
    seed[0] += 1
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed[0]))


def lora(out, into, rank=R):
    return noise(rank, into), noise(out, rank)


def changed(before, pipeline, part):
    """By layer, what was added to its weight."""
    after = getattr(pipeline, part).state_dict()
    plain = getattr(before, part).state_dict()
    return {k.removesuffix(".weight"): after[k] - plain[k] for k in after if not torch.equal(after[k], plain[k])}


def put_on(base, file, strength=1.0, part="unet"):
    """(what was added by layer, what was told)"""
    before, pipeline, told = open_base(str(base)), open_base(str(base)), []
    add_to_pipeline(pipeline, [AdapterFile(file, strength)], told.append)
    return changed(before, pipeline, part), told


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)


Q, FF = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.1.resnets.0.conv1"
AUTHORS = {Q: "input_blocks.3.1.transformer_blocks.0.attn1.to_q", FF: "input_blocks.3.0.in_layers.2"}
"""The second block's names in Stability's code, for blocks of one layer: 1 + 1 * (1 + 1) = 3."""
DOWN_UP = ("lora_down.weight", "lora_up.weight")


def _flat(prefix, name):
    return prefix + name.replace(".", "_")


LAYOUTS = {
    "kohya": lambda n: (_flat("lora_unet_", n), *DOWN_UP),
    "kohya, authors' names": lambda n: (_flat("lora_unet_", AUTHORS[n]), *DOWN_UP),
    "comfy": lambda n: ("diffusion_model." + AUTHORS[n], *DOWN_UP),
    "lycoris": lambda n: (_flat("lycoris_", n), *DOWN_UP),
    "diffusers": lambda n: (f"unet.{n}", "lora_A.weight", "lora_B.weight"),
    "diffusers, older": lambda n: (f"unet.{n}", "lora.down.weight", "lora.up.weight"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [None, 1.0])
def test_lora(layout, alpha, bases, tmp_path):
    down, up = lora(16, 16)
    kernel, out = noise(R, 8, 3, 3), noise(16, R, 1, 1)
    tensors = {}
    for name, pair in ((Q, (down, up)), (FF, (kernel, out))):
        stem, a, b = LAYOUTS[layout](name)
        tensors |= {f"{stem}.{a}": pair[0], f"{stem}.{b}": pair[1]}
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "a.safetensors")
    found, told = put_on(bases["sd"], tmp_path / "a.safetensors", 0.5)
    scale = 0.5 * (1.0 if alpha is None else alpha / R)
    assert found.keys() == {Q, FF} and not told
    assert close(found[Q], scale * up @ down)
    assert close(found[FF], scale * torch.einsum("o r, r i h w -> o i h w", out[:, :, 0, 0], kernel))


def test_forms_of_lycoris(bases, tmp_path):
    t, conv, prefix = {}, _flat("lora_unet_", FF), _flat("lora_unet_", Q)
    w1a, w1b, w2a, w2b = noise(16, R), noise(R, 16), noise(16, R), noise(R, 16)
    t |= {
        f"{prefix}.hada_w1_a": w1a,
        f"{prefix}.hada_w1_b": w1b,
        f"{prefix}.hada_w2_a": w2a,
        f"{prefix}.hada_w2_b": w2b,
    }
    t[f"{prefix}.alpha"] = torch.tensor(1.0)
    mid, down, up = noise(R, R, 3, 3), noise(R, 8, 1, 1), noise(16, R, 1, 1)
    t |= {f"{conv}.lora_mid.weight": mid, f"{conv}.lora_down.weight": down, f"{conv}.lora_up.weight": up}
    k, w1, b2a, b2b = _flat("lora_unet_", Q.replace("to_q", "to_k")), noise(4, 4), noise(4, 1), noise(1, 4)
    t |= {f"{k}.lokr_w1": w1, f"{k}.lokr_w2_a": b2a, f"{k}.lokr_w2_b": b2b, f"{k}.alpha": torch.tensor(0.5)}
    v, v1, v2 = _flat("lora_unet_", Q.replace("to_q", "to_v")), noise(4, 4), noise(4, 4)
    t |= {f"{v}.lokr_w1": v1, f"{v}.lokr_w2": v2, f"{v}.alpha": torch.tensor(7.0)}  # has no rank: alpha means nothing
    o, diff, bias = _flat("lora_unet_", Q.replace("to_q", "to_out.0")), noise(16, 16), noise(16)
    t |= {f"{o}.diff": diff, f"{o}.diff_b": bias}
    n, scale = _flat("lora_unet_", "conv_norm_out"), noise(8)
    t |= {f"{n}.w_norm": scale, f"{n}.b_norm": scale.clone()}
    save_file(t, tmp_path / "a.safetensors")
    found, told = put_on(bases["sd"], tmp_path / "a.safetensors")
    assert not told and len(found) == 8  # six weights, two biases
    assert close(found[Q], 0.5 * (w1a @ w1b) * (w2a @ w2b))
    assert close(found[FF], torch.einsum("m n h w, o m, n i -> o i h w", mid, up[:, :, 0, 0], down[:, :, 0, 0]))
    assert close(found[Q.replace("to_q", "to_k")], 0.5 * torch.kron(w1, b2a @ b2b))
    assert close(found[Q.replace("to_q", "to_v")], torch.kron(v1, v2))
    assert close(found[Q.replace("to_q", "to_out.0")], diff) and close(found["conv_norm_out"], scale)
    assert close(found[Q.replace("to_q", "to_out.0") + ".bias"], bias)


def test_dora_of_kohya(bases, tmp_path):
    (down, up), stem = lora(16, 16), _flat("lora_unet_", Q)
    weight = dict(open_base(str(bases["sd"])).unet.named_parameters())[f"{Q}.weight"].detach()
    for axis, shape in ((1, (16, 1)), (0, (1, 16))):
        length = 1 + noise(*shape).abs()
        t = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.dora_scale": length}
        save_file(t, tmp_path / "a.safetensors")
        found, _ = put_on(bases["sd"], tmp_path / "a.safetensors")
        together = weight + up @ down
        assert close(found[Q], together * length / together.norm(dim=axis, keepdim=True) - weight)


def test_layers_that_are_one_at_the_authors_and_several_in_diffusers(bases, tmp_path):
    width = 32
    t, parts = {}, {}
    (down, up), (d1, u1), (d2, u2) = lora(3 * width, width), lora(7 * width, width), lora(2 * width, width)
    for stem, (a, b) in {"double_blocks_0_img_attn_qkv": (down, up), "single_blocks_0_linear1": (d1, u1),
                         "final_layer_adaLN_modulation_1": (d2, u2)}.items():  # fmt: skip
        t |= {f"lora_unet_{stem}.lora_down.weight": a, f"lora_unet_{stem}.lora_up.weight": b}
        t[f"lora_unet_{stem}.alpha"] = torch.tensor(float(R))
    save_file(t, tmp_path / "a.safetensors")
    found, told = put_on(bases["flux"], tmp_path / "a.safetensors", part="transformer")
    for i, name in enumerate(("to_q", "to_k", "to_v")):
        rows = slice(i * width, (i + 1) * width)
        parts[f"transformer_blocks.0.attn.{name}"] = up[rows] @ down
        parts[f"single_transformer_blocks.0.attn.{name}"] = u1[rows] @ d1
    parts["single_transformer_blocks.0.proj_mlp"] = u1[3 * width :] @ d1
    parts["norm_out.linear"] = torch.cat([u2[width:], u2[:width]]) @ d2  # shift and scale the other way round
    assert not told and found.keys() == parts.keys()
    assert all(close(found[name], delta) for name, delta in parts.items())
    # ai-toolkit writes diffusers' names, OneTrainer the same with _; both mean what peft means by them
    a, b = lora(width, width)
    for stem, ends in (("transformer.transformer_blocks.0.attn.to_k", ("lora_A", "lora_B")),
                       ("lora_transformer_transformer_blocks_0_attn_to_k", ("lora_down", "lora_up"))):  # fmt: skip
        save_file({f"{stem}.{ends[0]}.weight": a, f"{stem}.{ends[1]}.weight": b}, tmp_path / "b.safetensors")
        found, _ = put_on(bases["flux"], tmp_path / "b.safetensors", part="transformer")
        assert found.keys() == {"transformer_blocks.0.attn.to_k"} and close(*found.values(), b @ a)


def test_sd3_of_kohya(bases, tmp_path):
    down, up = lora(48, 16)
    stem = "lora_unet_joint_blocks_0_context_block_attn_qkv"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, tmp_path / "a.safetensors")
    found, told = put_on(bases["sd3"], tmp_path / "a.safetensors", part="transformer")
    expected = {f"transformer_blocks.0.attn.add_{n}_proj": up[16 * i : 16 * i + 16] @ down for i, n in enumerate("qkv")}
    assert not told and found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in found)


def test_text_encoders_of_kohya(bases, tmp_path):
    layer = "encoder.layers.1.self_attn.q_proj"
    for base, stem, part in (("sd", "lora_te_", "text_encoder"), ("sdxl", "lora_te1_", "text_encoder"),
                             ("sdxl", "lora_te2_", "text_encoder_2")):  # fmt: skip
        down, up = lora(16, 16)
        name = _flat(f"{stem}text_model_", layer)
        t = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        save_file(t, tmp_path / "a.safetensors")
        found, told = put_on(bases[base], tmp_path / "a.safetensors", part=part)
        (own,) = found
        assert own.endswith(layer) and close(found[own], up @ down) and not told


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_what_peft_itself_saves(kind, bases, tmp_path):
    import peft

    plain = open_base(str(bases["sd"]))
    options = {"r": 2, "target_modules": ["to_q", "conv1"]}
    config = {
        "lora": lambda: peft.LoraConfig(lora_alpha=3, use_rslora=True, alpha_pattern={"conv1": 5}, **options),
        "dora": lambda: peft.LoraConfig(lora_alpha=3, use_dora=True, **options),
        "loha": lambda: peft.LoHaConfig(alpha=3, use_effective_conv2d=True, **options),
        "lokr": lambda: peft.LoKrConfig(alpha=3, rank_pattern={"to_q": 16}, **options),  # one with two whole factors
    }[kind]()
    network = peft.get_peft_model(plain.unet, config)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.1 * noise(*parameter.shape)
    plain.unet = network.base_model.model.eval()
    expected = tiny.drawn(plain)
    network.save_pretrained(tmp_path / "peft")
    pipeline, told = open_base(str(bases["sd"])), []
    add_to_pipeline(pipeline, adapters_for([str(tmp_path / "peft")], "any"), told.append)
    assert not told and torch.allclose(tiny.drawn(pipeline), expected, atol=1e-4)
    (tmp_path / "peft" / "adapter_config.json").unlink()
    with pytest.raises(ConfigError, match="its alpha stands in adapter_config.json"):
        open_pipeline(str(bases["sd"]), loras=adapters_for([str(tmp_path / "peft")], "any"))


def test_every_tensor_is_loaded_or_named(bases, tmp_path):
    (down, up), stem = lora(16, 16), _flat("lora_unet_", Q)
    t = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
    other = {"lora_unet_nowhere.lora_down.weight": down, "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": up,
             "lora_unet_conv_in.oft_blocks": up, "lora_unet_conv_out.alpha": torch.tensor(1.0)}  # fmt: skip
    save_file({k: v.clone() for k, v in (t | other).items()}, tmp_path / "a.safetensors")
    pipeline = open_base(str(bases["sd"]))
    found = read(tmp_path / "a.safetensors", {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder})
    assert found.left.keys() == other.keys()
    told = put_on(bases["sd"], tmp_path / "a.safetensors")[1]
    assert all(any(word in line for line in told) for word in
               ("lora_unet_nowhere", "lora_te2_text_model_encoder_layers_0_mlp_fc1", "lora_unet_conv_in.oft_blocks",
                "lora_unet_conv_out.alpha"))  # fmt: skip


def test_wrong_files_change_nothing(bases, tmp_path):
    (down, up), stem = lora(16, 16), _flat("lora_unet_", Q)
    whole = tmp_path / "a.safetensors"
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, whole)
    (tmp_path / "half.safetensors").write_bytes(whole.read_bytes()[:300])
    of_xl = {"lora_unet_input_blocks_9_9_proj_in.lora_down.weight": down}
    save_file(of_xl, tmp_path / "xl.safetensors")
    wide = {f"{stem}.lora_down.weight": noise(R, 24), f"{stem}.lora_up.weight": up}
    save_file(wide, tmp_path / "wide.safetensors")
    pipeline = open_base(str(bases["sd"]))
    before = {k: v.clone() for k, v in pipeline.unet.state_dict().items()}
    for name, words in (("half", "half.safetensors is damaged"), ("xl", "xl.safetensors is for another base"),
                        ("wide", "to_q does not fit the base: its update is 16 x 24 values, ")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            add_to_pipeline(pipeline, [AdapterFile(whole), AdapterFile(tmp_path / f"{name}.safetensors")], print)
        if name != "wide":
            assert all(torch.equal(v, before[k]) for k, v in pipeline.unet.state_dict().items())
    for text, words in ((f"{whole}:strong", "'strong' is no strength"), (f"{whole}:nan", "'nan' is no strength"),
                        (f"{tmp_path}/b.safetensors:1", "no such"), (f"{tmp_path}", "no adapter"),
                        (f"{tmp_path}/half.safetensors", "half.safetensors is damaged or cut short")):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            parse_adapter(text)
    assert parse_adapter(f"mine={whole}:-0.5") == AdapterFile(whole, -0.5, "mine")


def test_ours_and_diffusers_make_the_same_picture_of_a_file(bases, tmp_path):
    """diffusers' own loader and our reading, at a strength, on what kohya's scripts write."""
    t = {}
    for name, module in open_base(str(bases["sd"])).unet.named_modules():
        if name.endswith(("to_q", "to_v", "proj_in", "ff.net.2")):
            out, into = module.weight.shape[:2]
            (down, up), stem = lora(out, into), _flat("lora_unet_", name)
            square = [1, 1] if module.weight.ndim == 4 else []
            t |= {f"{stem}.lora_down.weight": down.reshape(R, into, *square), f"{stem}.alpha": torch.tensor(1.0),
                  f"{stem}.lora_up.weight": up.reshape(out, R, *square)}  # fmt: skip
    save_file(t, tmp_path / "a.safetensors")
    theirs = DiffusionPipeline.from_pretrained(bases["sd"])
    theirs.load_lora_weights(tmp_path, weight_name="a.safetensors", adapter_name="a")
    theirs.set_adapters(["a"], [0.7])
    ours = open_pipeline(str(bases["sd"]), loras=adapters_for([f"{tmp_path / 'a.safetensors'}:0.7"], "sd"))
    assert torch.allclose(tiny.drawn(ours), tiny.drawn(theirs), atol=1e-5)
    assert not torch.allclose(tiny.drawn(ours), tiny.drawn(open_base(str(bases["sd"]))), atol=1e-3)
