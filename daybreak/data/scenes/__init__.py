"""`scenes`: an embedded world of captioned pictures with exact ground truth.

world.py says what exists and what is held out, layout.py draws what a scene holds, render.py renders it, captions.py
describes it, source.py puts them together as training data. The judge that reads pictures back is evaluate/judge.py.
"""
