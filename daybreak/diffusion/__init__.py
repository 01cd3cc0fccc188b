"""Flow matching on pixels: flow.py (the algebra), times.py, guidance.py, sampler.py.

The convention, once: t = 1 is noise, t = 0 is data; pictures are in [-1, 1].
"""
