#!/bin/sh
# diffusers 0.42.1: PRXPipeline and PRXPixelPipeline draw one picture a call under guidance, their default. Two prompts
# in a list and num_images_per_prompt=2 raise in the transformer: it is given two times, whatever the number of rows.
# Prints what came of each call; fails where two pictures come.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0 ftfy==6.3.1
"$work/env/bin/python" - <<'PYTHON'
import sys

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXPixelPipeline, PRXTransformer2DModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

words = Tokenizer(models.WordLevel({"<pad>": 0, "dog": 1, "cat": 2}, unk_token="<pad>"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", model_max_length=4)
encoder = T5EncoderModel(T5Config(vocab_size=3, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
calls = {
    "one prompt": {"prompt": "dog"},
    "two prompts, guidance 1": {"prompt": ["dog", "cat"], "guidance_scale": 1.0},
    "two prompts": {"prompt": ["dog", "cat"]},
    "num_images_per_prompt=2": {"prompt": "dog", "num_images_per_prompt": 2},
}
seen = []
print(f"diffusers {diffusers.__version__}")
for kind in (PRXPipeline, PRXPixelPipeline):
    network = PRXTransformer2DModel(
        in_channels=3, patch_size=2, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[8, 8],
    )
    pipeline = kind(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=encoder, tokenizer=tokenizer,
        default_sample_size=16,
    )
    pipeline.set_progress_bar_config(disable=True)
    sizes = {"height": 16, "width": 16, "num_inference_steps": 1, "use_resolution_binning": False}
    for name, call in calls.items():
        try:
            seen.append(len(pipeline(**call, **sizes, output_type="latent").images))
        except RuntimeError as error:
            seen.append(str(error))
        print(f"{kind.__name__}, {name}: {seen[-1]}")
expected = [isinstance(outcome, int) for outcome in seen] == [True, True, False, False] * 2
sys.exit(0 if expected else "two pictures come under guidance: this is mended")
PYTHON
