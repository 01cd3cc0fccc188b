"""A model over HTTP: queue.py and worker.py batch, native.py and pipeline.py generate, routes.py and app.py speak."""
