"""The pretraining loop, its schedule, checkpoints and run folder."""
