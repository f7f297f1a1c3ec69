"""The evaluation suite: which tasks there are, their data, and a graph node for each."""
