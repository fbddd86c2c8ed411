"""Real data: sources, split protocols, and the pipeline that feeds the training step."""
