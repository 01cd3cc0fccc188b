"""`daybreak settings`: what a recipe sets, each setting as it is typed."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from daybreak import config as configs
from daybreak.config import StageConfig
from daybreak.config.documentation import forms
from daybreak.config.overrides import sections
from daybreak.recipes import recipe as find_recipe
from daybreak.tables import print_json

INDENT = 6


def list_settings(console: Console, recipe: str, as_json: bool = False) -> None:
    """`daybreak settings`: every field of a recipe with its value, what may be typed, and its meaning."""
    listed = {
        section: [
            {"name": f"{section}.{name}", "value": value, "form": typed[name], "meaning": meaning}
            for name, value, meaning in fields
        ]
        for section, fields in configs.documented_fields(find_recipe(recipe))
        if (typed := forms(sections().get(section, StageConfig)))
    }
    if as_json:
        print_json(console, listed)
        return
    for section, fields in listed.items():
        console.print(Text(section, style="bold"))
        for field in fields:
            head = Text.assemble(f"  --{field['name']} ", (field["value"], "cyan"), "  ", (field["form"], "dim"))
            console.print(head, soft_wrap=True, highlight=False)
            for line in Text(field["meaning"]).wrap(console, console.width - INDENT):
                line.rstrip()
                console.print(Text(" " * INDENT).append_text(line), highlight=False, soft_wrap=True)
        console.print()
