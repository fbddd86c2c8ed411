"""The training step, its lift over devices, the loop around it, and the checkpoints it leaves."""
