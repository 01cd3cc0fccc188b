"""The vision–language model that writes captions."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.hub_models import no_bar_of_weights


class Captioner:
    """A vision–language model of transformers, by name or folder. ConfigError where it can't be loaded."""

    def __init__(self, model: str, revision: str, prompt: str, max_tokens: int, device: torch.device) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.prompt, self.max_tokens = prompt, max_tokens
        no_bar_of_weights()
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            self.processor: Any = AutoProcessor.from_pretrained(model, revision=revision)
            network: Any = AutoModelForImageTextToText.from_pretrained(
                model, revision=revision, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError, ImportError) as e:
            raise ConfigError(f"--model {model} cannot be loaded: {str(e).strip().splitlines()[0]}") from None
        if getattr(self.processor, "chat_template", None) is None:
            raise ConfigError(f"--model {model} takes no instructions: it has no chat template")
        self.processor.tokenizer.padding_side = "left"  # so that all rows' answers begin at one place
        self.model = network.to(device).eval()

    @torch.inference_mode()
    def describe(self, pictures: list[Image.Image]) -> list[str]:
        """One caption a picture; greedy, so the same picture in the same batch gets the same words."""
        talks = [
            [{"role": "user", "content": [{"type": "image", "image": p}, {"type": "text", "text": self.prompt}]}]
            for p in pictures
        ]
        inputs = self.processor.apply_chat_template(
            talks,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.model.device, self.model.dtype)
        tokens = self.model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)
        answers = self.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        # A caption that ends within a character has U+FFFD there, which readers of captions refuse.
        return [" ".join(a.replace("\ufffd", " ").replace("\0", " ").split()) for a in answers]
