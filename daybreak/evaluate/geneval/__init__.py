"""GenEval (Ghosh et al. 2023, arXiv 2310.11513) with transformers in place of mmdet."""
