"""``jaxhash bench``: what the losses cost on the machine at hand.

`jaxhash.bench.measure.measure` times losses of one's own in the same manner.
"""
