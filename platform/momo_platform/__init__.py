"""The generic experiment platform on Ray: stages, data, training. It knows no model."""
