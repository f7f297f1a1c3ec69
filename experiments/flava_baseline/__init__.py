"""FLAVA (arXiv 2112.04482) at small size, from `transformers`' own parts, for the comparison."""
