"""The error of a user's setting."""


class ConfigError(ValueError):
    """A user's setting is wrong; the message is one line that names it and says what would be right."""
