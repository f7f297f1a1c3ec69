"""Experiments: one file each; its docstring says hypothesis, command, cost and result."""
