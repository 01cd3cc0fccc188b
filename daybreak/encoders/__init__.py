"""Frozen or jointly trained networks around the transformer: text encoders."""
