"""daybreak: trains a text-to-image model in a day, from your own pictures to a served model."""

__version__ = "0.1.0"
