"""Sweeps: many graphs with other settings each, on Ray Tune, sharing every stage they can.

Light: neither Ray nor Optuna is imported before a sweep runs.
"""

from momo_platform.sweeps.sweep import Choice, Interval, Settings, Stopping, Sweep

__all__ = ["Choice", "Interval", "Settings", "Stopping", "Sweep"]
