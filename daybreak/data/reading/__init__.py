"""What users have, read in one way by all commands: every file is a picture, a caption, or left out with its reason."""
