"""Which versions of diffusers and transformers open what daybreak writes, and whether its cards' lines run.

    python benchmarks/opens.py --work FOLDER [--write]

Makes tiny models of every kind, exports each in three number formats, then, in a virtual environment of its own: what
each card says to install is installed and its lines are run as they stand, and for each pair of versions the folders
are opened and drawn with; float32 has to give the picture that is drawn here, to 1e-4. LoRA and DoRA files (attention,
convolutions, text encoders) are loaded into their bases too. `--write` puts the table where cards read it,
daybreak/export/opens.json. Needs the extras finetune and export, a package index, 3 GB, and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "finetune")]

PAIRS = (("0.32.2", "4.49.0"), ("0.35.2", "4.57.6"), ("0.39.0", "5.17.0"), ("0.42.1", "5.17.0"), ("0.42.1", "5.24.0"))
"""diffusers and transformers, oldest first."""
PEFT = {"0.32.2": "0.15.2"}
"""What goes with a version of diffusers; the others take the one that is installed here."""
DTYPES = ("float32", "float16", "bfloat16")
PROBE = """
import json, sys, warnings
from pathlib import Path
import torch
import diffusers

diffusers.utils.logging.set_verbosity_error()

def draw(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "height": 16, "width": 16, "output_type": "pt"}
    if type(pipeline).__name__.startswith("PRX"):
        size = getattr(pipeline.config, "default_sample_size", 16)
        options |= {"use_resolution_binning": False, "height": size, "width": size}
    return pipeline("a red circle on white", generator=torch.Generator().manual_seed(3), **options).images.float()

found = {}
for line in json.loads(sys.argv[1]):
    folder, dtype, lora, wanted = (line[k] for k in ("folder", "dtype", "lora", "wanted"))
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype))
        if lora:
            pipeline.load_lora_weights(lora, weight_name="pytorch_lora_weights.safetensors")
        picture = draw(pipeline)
        if not Path(wanted).exists():
            torch.save(picture, wanted)
        apart = (picture - torch.load(wanted)).abs().max().item()
        limit = 1e-4 if dtype == "float32" else 1.0
        found[line["name"]] = "" if apart <= limit else f"pictures are {apart:.2g} apart"
    except Exception as e:
        found[line["name"]] = f"{type(e).__name__}: {' '.join(str(e).split())[:160]}"
print(json.dumps(found))
"""


def make_models(work: Path) -> dict[str, Path]:
    """Runs by the name of what is in them, exported below WORK/exported."""
    import tiny

    from daybreak.commands.export import run_export
    from daybreak.export.licences import Licences
    from daybreak.train.loop import train
    from tests.conftest import tiny_config

    pictures = tiny.write_pictures(work / "pictures", 8)
    runs = {"own": work / "own" / "run"}
    train(tiny_config(train__steps=2, train__sample_every=1.0, sample__steps=2), runs["own"], [])
    for name in ("sd", "sdxl", "sd3", "flux", "prx"):
        base = getattr(tiny, f"save_{name}")(work / name / "base")
        method = {"method": "full"} if name == "prx" else {"method": "lora", "rank": 2, "lr": 2e-2}
        settings = {"steps": 2, "resolution": 16, "batch": 4, **method}
        runs[name] = tiny.finetune(base, pictures, work / name / "run", **settings).folder
    for name, run in runs.items():
        for dtype in DTYPES:
            out = work / "exported" / f"{name}-{dtype}"
            run_export(Console(quiet=True), run, "diffusers", out, dtype, Licences())
    return runs


def make_loras(work: Path, bases: dict[str, Path]) -> list[dict[str, str]]:
    """LoRA and DoRA files on every layer of a base, with text encoders where they can be trained; what to look at."""
    import test_adapter_files as files

    looks = []
    for name in ("sd", "sdxl", "sd3", "flux"):
        base = work / "plain" / name
        bases_family = files.family_of(files.open_base(str(bases[name])), name)
        bases_family.save(base)
        layers = tuple(files.adapters.layer_names(bases_family.network))
        for method in ("lora", "dora"):
            text = bases_family.trains_text
            family = files.trained(base, method=method, alpha=6.0, targets=layers, train_text_encoder=text)
            folder = files.written(family, work / "loras" / f"{name}-{method}", text=text)
            torch.save(files.tiny.drawn(family.pipeline), folder / "wanted.pt")
            looks.append(look(f"{name} {method} file", base, "float32", folder / "wanted.pt", folder))
    return looks


def look(name: str, folder: Path, dtype: str, wanted: Path, lora: Path | None = None) -> dict[str, str]:
    """One thing to open."""
    lora_folder = str(lora) if lora else ""
    return {"name": name, "folder": str(folder), "dtype": dtype, "wanted": str(wanted), "lora": lora_folder}


def probe(python: Path | str, looks: list[dict[str, str]]) -> dict[str, str]:
    """What is wrong with each, by name; "" where it opens and draws."""
    done = subprocess.run([str(python), "-c", PROBE, json.dumps(looks)], capture_output=True, text=True)
    if done.returncode:
        return {line["name"]: done.stderr.strip().splitlines()[-1][:160] for line in looks}
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def install(python: Path, *packages: str) -> None:
    """Into the environment of `python`."""
    subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True, stdout=subprocess.DEVNULL)


def run_cards(python: Path, exported: Path) -> dict[str, str]:
    """Installs what each card says, and runs its lines as they stand; what is wrong, by folder."""
    wrong = {}
    cards = {folder.name: (folder / "README.md").read_text() for folder in sorted(exported.iterdir())}
    # Those that ask for less come first: what another card asks for must not help them.
    for name, card in sorted(cards.items(), key=lambda item: "ftfy" in item[1]):
        (line,) = re.findall(r"```\npip install (.*?)\n```", card)
        (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        install(python, *line.split())
        done = subprocess.run([str(python), "-c", block], cwd=exported.parent, capture_output=True, text=True)
        wrong[name] = done.stderr.strip().splitlines()[-1][:160] if done.returncode else ""
        print(f"card of {name}: {wrong[name] or 'runs'}", flush=True)
    return wrong


def measure(python: Path, looks: list[dict[str, str]]) -> dict[str, dict[tuple[str, str], str]]:
    """What is wrong, by what was looked at and pair of versions."""
    table: dict[str, dict[tuple[str, str], str]] = {line["name"]: {} for line in looks}
    for diffusers, transformers in PAIRS:
        peft = f"peft=={PEFT.get(diffusers, version('peft'))}"
        install(python, f"diffusers=={diffusers}", f"transformers=={transformers}", peft, "ftfy")
        found = probe(python, looks)
        for name, wrong in found.items():
            table[name][diffusers, transformers] = wrong
        right = sum(not wrong for wrong in found.values())
        print(f"diffusers {diffusers}, transformers {transformers}, {peft}: {right} of {len(found)}", flush=True)
    return table


def main() -> int:
    """0 where all cards run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="A new folder.")
    parser.add_argument("--write", action="store_true", help="Write daybreak/export/opens.json.")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True)
    runs = make_models(work)
    exported = work / "exported"
    looks = [
        look(f"{name} {dtype}", exported / f"{name}-{dtype}", dtype, exported / f"{name}-{dtype}" / "wanted.pt")
        for name in runs
        for dtype in DTYPES
    ]
    here = probe(sys.executable, looks)
    looks += make_loras(work, {name: work / name / "base" for name in runs})
    assert not any(here.values()), here
    venv.create(work / "env", with_pip=True)
    python = work / "env" / "bin" / "python"
    cards = run_cards(python, exported)
    table = measure(python, looks)
    print("| |", " | ".join(f"{d}, {t}" for d, t in PAIRS), "|")
    for name, row in table.items():
        print(f"| {name} |", " | ".join(row[pair] or "opens" for pair in PAIRS), "|")
    opens: dict[str, list[tuple[str, str]]] = {}
    for name in runs:
        kind = json.loads((exported / f"{name}-float32" / "model_index.json").read_text())["_class_name"]
        opens[kind] = [p for p in PAIRS if not any(table[f"{name} {dtype}"][p] for dtype in DTYPES)]
    if arguments.write:
        rows = ",\n".join(f" {json.dumps(kind)}: {json.dumps(pairs)}" for kind, pairs in opens.items())
        (ROOT / "daybreak" / "export" / "opens.json").write_text("{\n" + rows + "\n}\n")
    return int(any(cards.values()))


if __name__ == "__main__":
    sys.exit(main())
