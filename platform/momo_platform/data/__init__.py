"""Data: prepared once by Ray Data, written as Parquet shards, read in a resumable order.

`sources`, `images`, `text` and `packages` know formats; `prepare` and `mix` are stages; `shards`,
`order` and `loader` feed a training worker.
"""
