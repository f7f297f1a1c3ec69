"""Training: one loop for every stage, ignorant of modalities, run by Ray's TorchTrainer.

`config` and `records` need no torch; everything else does.
"""
