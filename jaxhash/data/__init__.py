"""Data: sources of labeled inputs, splits of them, and the batches that training reads.

Read `sources` first: a `Source` holds labels and inputs, which are `rows` that are read by index.
`from_arrays` makes a source of your own arrays.
`load` opens a source by its name with one of the `readers`, a module for each kind of file or set.
`splits` has the type `Split`; `protocols` make splits of a source, as papers do or for any data.
`pipeline` makes batches (with `augment`, and `workers` for slow inputs).
`input_form` records the form of a model's inputs, to prepare later inputs in the same way.
`checks` examine data and split before training; `writers` write feature files.
"""

from jaxhash.data.readers.memory import from_arrays as from_arrays
from jaxhash.data.sources import Source as Source
