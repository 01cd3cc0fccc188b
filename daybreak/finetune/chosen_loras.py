"""Adapters that are chosen among while a model draws: those in use are part of its weights, the base stays beside.

peft's `set_adapters` and hot-swapping keep adapters apart from the weights instead: they know fewer forms than
adapter_reading.py reads, cost two products more in every layer of every step, and round otherwise than what
`daybreak sample --lora` draws. Here a change of adapters costs one product a layer, and a step costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.finetune.adapter_reading import Parts
from daybreak.finetune.adapters import Adapters, Weights, fold
from daybreak.finetune.loras import Tell, read_fitting

Choice = tuple[tuple[str, float], ...]
"""Names of adapters with their strengths, in the order in which they become part of the weights."""


class ChosenLoras:
    """Adapter files by name, on these networks. unfit: why not, of the files that are for another base or damaged.

    Between two calls of `use` the networks' weights belong to this object; nothing else may change them.
    """

    def __init__(self, parts: Parts, files: Mapping[str, AdapterFile], tell: Tell) -> None:
        self._parts, self._files = parts, files
        self._adapters: dict[str, dict[str, Adapters]] = {}
        self._replaced: Weights = []
        self._chosen: Choice | None = ()
        self.unfit: dict[str, str] = {}
        for name, file in files.items():
            try:
                found = read_fitting(file, parts, tell)
                self._adapters[name] = {part: self._beside(part, a) for part, a in found.adapters.items()}
                self.use(((name, 1.0),))  # a layer that does not fit is told now, not to a client
            except ConfigError as e:
                self._adapters.pop(name, None)
                self.unfit[name] = str(e)
        self.use(())

    @property
    def names(self) -> tuple[str, ...]:
        """Those that may be chosen."""
        return tuple(self._adapters)

    def use(self, choice: Choice) -> None:
        """Makes these adapters part of the weights, each at its strength times its file's, and no others.

        Without any the weights are the base's, to the bit.
        """
        if choice == self._chosen:
            return
        self._chosen = None  # until it holds again
        for weight, before in reversed(self._replaced):
            weight.data = before
        self._replaced = []
        with torch.inference_mode(False):
            for name, strength in choice:
                file = self._files[name]
                for part, adapters in self._adapters[name].items():
                    self._replaced += fold(self._parts[part], adapters, strength * file.strength, str(file.path))
        self._chosen = choice

    def _beside(self, part: str, adapters: Adapters) -> Adapters:
        """The adapters where their network is, so that products are computed there."""
        device = next(self._parts[part].parameters()).device
        return {
            layer: replace(adapter, tensors={name: tensor.to(device) for name, tensor in adapter.tensors.items()})
            for layer, adapter in adapters.items()
        }
