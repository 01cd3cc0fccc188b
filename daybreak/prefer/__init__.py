"""Trained models made better by what people and judges prefer."""
