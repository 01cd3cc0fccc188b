"""The lock and the ranges of pyproject.toml agree."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def test_the_lock_lies_within_the_ranges():
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]):
        assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)]), requirement


def test_the_lock_fits_any_machine():
    assert not [name for name, version in LOCK.items() if re.match("nvidia|cuda|triton", name) or "+" in version]


def test_what_the_core_needs_has_both_bounds():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert {s.operator for s in requirement.specifier} == {">=", "<"}, requirement
