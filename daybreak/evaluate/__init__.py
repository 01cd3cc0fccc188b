"""What a model is worth: judge.py reads pictures of `scenes`, composition.py scores prompts, report.py tells."""
