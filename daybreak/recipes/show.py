"""`daybreak settings`: what a recipe sets, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daybreak import config as configs
from daybreak.config import StageConfig
from daybreak.config.documentation import forms
from daybreak.config.overrides import sections
from daybreak.recipes import recipe as find_recipe


def list_settings(console: Console, recipe: str) -> None:
    """`daybreak settings`: every field of a recipe with its meaning."""
    config = find_recipe(recipe)
    for section, fields in configs.documented_fields(config):
        table = Table(
            title=section, title_justify="left", title_style="bold", box=None, padding=(0, 2), show_header=False
        )
        typed = forms(sections().get(section, StageConfig))
        for name, value, meaning in fields:
            text = f"{escape(meaning)} [dim]{escape(typed[name])}[/dim]"
            table.add_row(f"--{section}.{name}", f"[cyan]{value}[/cyan]", text)
        console.print(table)
        console.print()
