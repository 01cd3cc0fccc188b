"""A trained model in the package: `scenes`, which follows its prompts. card: daybreak/box/scenes/README.md."""
