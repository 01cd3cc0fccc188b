"""What a recipe will take, before it runs: account.py (parameters, FLOPs), networks.py (frozen networks' sizes)."""
