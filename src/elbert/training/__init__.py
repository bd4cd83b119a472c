"""Fine-tuning: loss schemes, the trainer, and the folder a finished model becomes."""
