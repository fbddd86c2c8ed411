"""Training: the state, the step, its parallel form, the loop around it, and checkpoints.

Read `step` first: `train_step` is one pure function of a state and a batch. `state` holds what a
checkpoint stores, `optimizer` and `gradient_cache` what the step is built from, `parallel` runs it
over devices (the only package that uses pmap and shard_map), and `members` trains the members of a
sweep in one program. `loop` runs the steps; `checkpoint` and `digests` save and verify states,
`model_selection` chooses the epoch to evaluate, and `collapse` and `speed` monitor the run.
`distributed`, `stop` and `guard` handle several processes and the signals that end them, `devices`
and `compilation_cache` what is specific to this machine. This package imports nothing:
the command line loads `guard` and `stop` before JAX.
"""
