"""Prompts made longer by a language model, for image models that were trained on long captions."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

import torch

from daybreak.config import ConfigError
from daybreak.hub_models import HUB_MODELS, load_pretrained

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


class ChatServer:
    """The same by a model behind an address that speaks OpenAI's chat API, such as http://localhost:8000/v1.

    `#NAME` at the address's end chooses among its models; else it is the first that it lists. The key, where it wants
    one, is read from OPENAI_API_KEY.
    """

    PATIENCE_SECONDS = 120.0

    def __init__(self, address: str) -> None:
        url, _, name = address.partition("#")
        self._url = url.rstrip("/")
        self.model = name or self._first_model()

    def rewrite(self, prompt: str) -> str:
        """The longer prompt; the prompt itself where the model says nothing. ConfigError where no model answers."""
        message = {"role": "user", "content": INSTRUCTION.format(prompt=prompt)}
        body = {"model": self.model, "messages": [message], "temperature": 0, "max_tokens": MOST_TOKENS}
        try:
            answer = self._ask("chat/completions", body)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ConfigError(f"--expand {self._url}: the answer holds no choices[0].message.content") from None
        return " ".join(str(answer or "").split()) or prompt

    def _first_model(self) -> str:
        try:
            return str(self._ask("models")["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise ConfigError(f"--expand {self._url} lists no model; name one: {self._url}#NAME") from None

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{what}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.PATIENCE_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise ConfigError(f"--expand {self._url}: /{what} answered {e.code} {e.reason}") from None
        except (OSError, ValueError) as e:
            reason = getattr(e, "reason", None) or e
            raise ConfigError(f"--expand {self._url}: no chat model answers at /{what} ({reason})") from None
