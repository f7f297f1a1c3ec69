"""Pipelines wire `momo_platform` and `momo` together: full.py is the whole job."""
