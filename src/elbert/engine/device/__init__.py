"""The loop that runs on a CUDA device by itself, without asking the host."""
