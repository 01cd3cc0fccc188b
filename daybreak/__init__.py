"""daybreak: trains a text-to-image model in a day, from your own pictures to a served model."""

import time

__version__ = "0.1.0"

STARTED = time.time()
"""When the command was given, about: seconds since 1970. A deadline counts from here."""
