"""``jaxhash compile``: what a training step costs on accelerators that are not here.

The compilers of TPU and GPU run without the hardware. `targets` names the accelerators and makes their
devices, which are descriptions only; `program` compiles for them; `run` compiles the step and the
encoder of a run, and prints and writes what the programs say. Nothing is executed, so no time on an
accelerator is known: `roofline` bounds it from below.
"""
