"""What the stages of data leave for others. Loads no Arrow."""

from momo_platform.data.config import DATA
from momo_platform.stages.inputs import ArtifactFolder, Within


class PreparedRows(ArtifactFolder):
    """What a corpus's preparation leaves: rows in a Parquet `file`."""

    file = Within(DATA)


class Shards(ArtifactFolder):
    """What a mixture leaves: folders of shards, of the rows that are trained on and of those that
    training is measured on; without any of the latter, there is no such folder."""

    training, valid = Within("shards"), Within("valid")
