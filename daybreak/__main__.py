"""`python -m daybreak`."""

from daybreak.cli import entry

entry()
