"""From prompts to pictures: samplers, guidance, and prompts written out first."""
