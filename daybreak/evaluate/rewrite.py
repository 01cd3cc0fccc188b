"""Prompts made longer by a language model, for image models that were trained on long captions."""

from __future__ import annotations

from typing import Any

import torch

from daybreak.evaluate.features.networks import HUB_MODELS, load_pretrained

INSTRUCTION = (
    "Rewrite this prompt for a picture as one detailed caption of two to four sentences. Keep every object, number, "
    "colour and position exactly as asked for, and add no further objects of these kinds. Answer with the caption "
    "alone.\n\nPrompt: {prompt}"
)
MOST_TOKENS = 200


class Rewriter:
    """A transformers language model that turns short prompts into captions; the likeliest words, so always the same."""

    def __init__(self, weights: str | None, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.source = weights or HUB_MODELS["rewriter"][0]
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._model = load_pretrained(AutoModelForCausalLM, "rewriter", weights, dtype=dtype).to(device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(self.source)

    @torch.no_grad()
    def rewrite(self, prompt: str) -> str:
        """The longer prompt; the prompt itself where the model says nothing."""
        text = INSTRUCTION.format(prompt=prompt)
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": text}]
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = self._tokenizer(text, return_tensors="pt", return_token_type_ids=False).to(self._model.device)
        written = self._model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)
        answer = self._tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(answer.split()) or prompt
