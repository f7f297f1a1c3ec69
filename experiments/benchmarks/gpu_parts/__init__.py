"""The parts of `experiments/benchmarks/gpu.py`: what is right, how fast it computes, beside which
peers, and how it is fed. A part maps its cases to generators of rows."""
