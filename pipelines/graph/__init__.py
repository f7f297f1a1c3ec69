"""The graph of the whole job, a phase a file: corpora, training, evaluation, report; `job` joins
them."""

from pipelines.graph.job import build_graph
from pipelines.graph.training import training_resources

__all__ = ["build_graph", "training_resources"]
