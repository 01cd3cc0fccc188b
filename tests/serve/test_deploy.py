"""The files in deploy/ say what the server does: its flags, its paths, its figures."""

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner

from daybreak.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def words_of_serve() -> str:
    return CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output


def test_flags_paths_and_figures_exist(server):
    documents = [d for f in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())]
    by_kind = {d["kind"]: d for d in documents}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["daybreak"]
    recipe = (DEPLOY / "Containerfile").read_text()
    flags = {
        w
        for w in [*container["args"], *compose["command"], *re.findall(r'"(--[a-z-]+)"', recipe)]
        if w.startswith("--")
    }
    assert {"--keys", "--queue", "--host"} <= flags
    assert all(flag in words_of_serve() for flag in flags)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.http.get(container[probe]["httpGet"]["path"]).status_code == 200
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    (metric,) = by_kind["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in server.http.get("/metrics").text
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause + 120 + 10
    assert by_kind["Service"]["spec"]["selector"] == by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
