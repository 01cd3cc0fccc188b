"""The forms in which a trained model lies on disk: opened, and written."""
