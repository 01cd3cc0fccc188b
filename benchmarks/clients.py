"""The clients that exist, with their defaults, against a real server: client x call x result.

    python benchmarks/clients.py [MODEL] [--keep FOLDER]

Installs the pinned clients into a temporary folder (pip and npm, each from its own registry), starts `daybreak serve`
of MODEL (the model in the box, where none is named) with the options that a call needs, makes the calls of
client_calls.py and client_calls.mjs, and prints Markdown for docs/serving.md. Ends with 1 where a call failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from serving import serving

PYTHON = {
    "openai": "3.57.0",
    "litellm": "1.110.2",
    "pydantic-ai-slim": "2.68.0",
    "haystack-ai": "3.4.1",
    "semantic-kernel": "1.45.0",
    "langchain-community": "0.4.2",
    "langchain-openai": "1.7.4",
    "huggingface_hub": "2.4.0",
    "pillow": "13.0.0",
}
NODE = {"openai": "6.49.0", "ai": "6.0.326", "@ai-sdk/openai": "3.0.141", "@ai-sdk/openai-compatible": "2.0.92"}
OPTIONS = ((), ("--any-model",), ("--any-model", "--response-format", "url"))
"""What an operator gives `daybreak serve`; each call names which it needs."""
HERE = Path(__file__).parent


def install(folder: Path) -> None:
    """The clients into `folder`, unless they lie there."""
    python, node = folder / "py", folder / "js"
    if not (python / "bin" / "python").is_file():
        venv.create(python, with_pip=True)
        wanted = [f"{name}=={version}" for name, version in PYTHON.items()]
        subprocess.run([python / "bin" / "pip", "install", "-q", *wanted], check=True)
    if not (node / "node_modules").is_dir():
        node.mkdir(exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in NODE.items()]
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", node, *wanted], check=True)


def calls(folder: Path, model: str, url: str, options: str) -> list[dict[str, str]]:
    """What the calls that need exactly these options say: {"client", "call", "options", "result"} each."""
    (folder / "js" / "client_calls.mjs").write_bytes((HERE / "client_calls.mjs").read_bytes())  # beside node_modules
    commands = (
        [folder / "py" / "bin" / "python", HERE / "client_calls.py"],
        ["node", folder / "js" / "client_calls.mjs"],
    )
    lines: list[str] = []
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "HF_", "PYTHON"))}
    clean["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask for prices elsewhere
    for command in commands:
        words = [*map(str, command), url, model, options]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=clean, cwd=folder, check=False)
        lines += [line for line in done.stdout.splitlines() if line.startswith('{"client":')]
        if done.returncode:
            lines.append(json.dumps({"client": str(command[1]), "call": "all", "options": options, "result": "ended"}))
    return [json.loads(line) for line in lines]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="scenes")
    parser.add_argument("--keep", type=Path, help="a folder for the clients that stays")
    a = parser.parse_args()
    found: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.keep or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        install(folder)
        for options in OPTIONS:
            with serving(a.model, 1, *options) as (_, url):
                found += calls(folder, Path(a.model).name, url, " ".join(options))
    print("| client | call | options of `daybreak serve` | result |\n|---|---|---|---|")
    for one in sorted(found, key=lambda one: (one["client"], one["options"])):
        options = f"`{one['options']}`" if one["options"] else ""
        print(f"| {one['client']} | {one['call']} | {options} | {one['result']} |")
    failed = [one for one in found if not one["result"].startswith("ok")]
    print(f"\n{len(found)} calls, {len(failed)} failed.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
