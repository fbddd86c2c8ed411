"""``jaxhash bench``: what losses and the input pipeline cost on this machine.

`run` measures a configuration (`config`), `run_compiled` compiles it for accelerators that are not here
(`compiled_loss`, `compile`), and `compare` shows the result files of several. `benchmark` measures one setting
after the other and stops a loss that becomes too slow or too large; `measure` times losses at one
setting, `prepare` compiles them, and `losses` and `torch_hswd` are what can be timed. `scaling` fits
how times grow with the size, `report` prints and plots, `bandwidth` measures a plain copy.
`input_pipeline` measures decoding, augmentation and batches.

Read first: `measure`. `jaxhash.bench.measure.measure_losses` times any loss in the same manner.
"""
