"""Learning from what people and judges prefer: `daybreak prefer`."""
