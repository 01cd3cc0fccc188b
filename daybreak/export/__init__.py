"""From our weights to other people's formats, and back."""
