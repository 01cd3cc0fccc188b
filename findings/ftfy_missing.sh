#!/bin/sh
# diffusers 0.42.1: PRXPixelPipeline raises "name 'ftfy' is not defined" for any prompt where the package ftfy is not
# installed, which diffusers neither installs nor asks for when the pipeline is made or opened; so do the prompts of
# Wan's image-to-video, VACE and animation, SkyReels V2, Helios, ChronoEdit and LucyEdit. WanPipeline does without it.
# Prints what each says; fails where the first draws.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0
"$work/env/bin/python" - <<'PYTHON'
import importlib
import sys

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, PRXPixelPipeline, PRXTransformer2DModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

words = Tokenizer(models.WordLevel({"<pad>": 0, "dog": 1}, unk_token="<pad>"))
pipeline = PRXPixelPipeline(
    transformer=PRXTransformer2DModel(
        in_channels=3, patch_size=2, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[8, 8],
    ),
    scheduler=FlowMatchEulerDiscreteScheduler(),
    text_encoder=T5EncoderModel(T5Config(vocab_size=2, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
    tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", model_max_length=4),
)
pipeline.set_progress_bar_config(disable=True)


def outcome(draw):
    try:
        draw()
    except NameError as error:
        return f"{type(error).__name__}: {error}"
    return "works"


def drawn():
    pipeline("dog", height=16, width=16, num_inference_steps=1, use_resolution_binning=False)


seen = outcome(drawn)
print(f"diffusers {diffusers.__version__}\nPRXPixelPipeline: {seen}")
others = ("wan.pipeline_wan", "wan.pipeline_wan_i2v", "wan.pipeline_wan_vace", "wan.pipeline_wan_animate",
          "skyreels_v2.pipeline_skyreels_v2", "helios.pipeline_helios", "chronoedit.pipeline_chronoedit",
          "lucy.pipeline_lucy_edit")
for name in others:
    module = importlib.import_module(f"diffusers.pipelines.{name}")
    print(f"{name.partition('.')[2]}: {outcome(lambda module=module: module.prompt_clean('dog'))}")
sys.exit("it draws: this is mended" if seen == "works" else 0)
PYTHON
