"""What lives as long as the server does: models with their lines, keys, limits, figures, pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import adapters_to_choose
from daybreak.serve.blocklist import Blocklist
from daybreak.serve.errors import ApiError
from daybreak.serve.find import check_names, find_served
from daybreak.serve.images import Store
from daybreak.serve.keys import RateLimiter, read_keys
from daybreak.serve.line import Line
from daybreak.serve.metrics import Metrics
from daybreak.serve.safety import SafetyCheck
from daybreak.serve.schemas import ModelCard
from daybreak.serve.settings import ServeSettings

log = logging.getLogger("daybreak.serve")


def aliases_of(settings: ServeSettings, names: list[str]) -> dict[str, str]:
    """{alias: model} of `--alias NAME=MODEL`; ConfigError for one that leads nowhere, or hides a model."""
    aliases: dict[str, str] = {}
    for text in settings.alias:
        alias, equals, name = text.partition("=")
        if not (alias and equals and name):
            raise ConfigError(f"--alias is {text!r}; it must be NAME=MODEL, such as gpt-image-1={names[0]}")
        if name not in names:
            raise ConfigError(f"--alias {text}: no model is named {name}; there are {', '.join(names)}")
        if alias in names or alias in aliases:
            raise ConfigError(f"--alias {text}: {alias} is the name of a model or an alias already")
        aliases[alias] = name
    return aliases


class ImageServer:
    """Models, each "FOLDER" or "NAME=FOLDER", and the processes that draw with them.

    ConfigError where one can't be opened, two have one name, the key file is wrong, or what should write prompts out
    is not there.
    """

    def __init__(self, models: list[str], settings: ServeSettings) -> None:
        names = [find_served(spec)[0] for spec in models]
        check_names(names)
        self.settings = settings
        self.aliases = aliases_of(settings, names)
        self._blocklist = Blocklist(settings.blocklist) if settings.blocklist else None
        self.safety = SafetyCheck(settings.safety) if settings.safety else None
        self.keys = read_keys(settings.keys) if settings.keys else None
        self.limiter = RateLimiter(settings.rate)
        self.metrics = Metrics()
        self.store = Store()
        self.lines: dict[str, Line] = {}
        self._stopping = False
        loras = adapters_to_choose(settings.lora, names)
        try:
            for name, spec in zip(names, models, strict=True):
                self.lines[name] = Line(spec, settings, self.metrics, loras)
            self._check_adapters(loras)
        except ConfigError:
            self.stop()
            raise

    def stop(self) -> None:
        """Takes nothing more, generates what is in line, and returns when that is done."""
        self._stopping = True
        for line in self.lines.values():
            line.close()

    def _check_adapters(self, loras: Iterable[str]) -> None:
        """ConfigError for an adapter that no model can draw with; of others it is told which models can't."""
        for lora in loras:
            reasons = {name: line.unfit[lora] for name, line in self.lines.items() if lora in line.unfit}
            if len(reasons) == len(self.lines):
                raise ConfigError(f"--lora {lora}=: no model can draw with it: {next(iter(reasons.values()))}")
            for name, reason in reasons.items():
                log.warning("note: %s does not draw with the adapter %s: %s", name, lora, reason)

    def check_ready(self) -> None:
        """ApiError 503 unless every model is warm and alive."""
        for name, line in self.lines.items():
            if self._stopping or not line.alive:
                raise ApiError(503, f"model {name} is not running", retry_after=5)
            if not line.ready:
                raise ApiError(503, f"model {name} is warming up", retry_after=5)

    def line(self, name: str | None) -> Line:
        """The line of a model or an alias, of the first one where no name is given; ApiError 404 for an unknown name.

        With `any_model` the first one draws for unknown names too.
        """
        name = self.aliases.get(name or "", name)
        if name is None or (name not in self.lines and self.settings.any_model):
            return next(iter(self.lines.values()))
        if name not in self.lines:
            there = ", ".join([*self.lines, *self.aliases])
            raise ApiError(404, f"no model is named {name!r}; there are {there}", "model", "model_not_found")
        return self.lines[name]

    def check_prompt(self, prompt: str) -> None:
        """ApiError 400 for one that is longer than allowed, or holds what is blocked."""
        most = self.settings.limit_prompt
        if len(prompt) > most:
            said = f"prompt: {len(prompt)} characters are more than {most}, the most here"
            raise ApiError(400, said, "prompt", "string_above_max_length")
        if self._blocklist is not None and self._blocklist.blocks(prompt):
            raise ApiError(400, "prompt: it holds what this server does not draw", "prompt", "moderation_blocked")

    def card(self, name: str) -> ModelCard:
        """A model as /v1/models lists it."""
        info = self.lines[name].info
        return ModelCard(
            id=name,
            created=info.created,
            size=info.size,
            size_multiple=info.multiple,
            max_size=info.max_size,
            steps=info.steps,
            max_steps=self.settings.max_steps,
            guidance=info.guidance,
            previews=info.previews,
            expands=info.expand is not None,
            edits=info.edits,
            loras=list(info.loras),
            aliases=[alias for alias, model in self.aliases.items() if model == name],
        )
