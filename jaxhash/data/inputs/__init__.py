"""What is encoded: images and vectors that need no labels and no split, read a block at a time.

`open_inputs` opens folders, image files, lists of files, arrays (.npy, .npz, Parquet) and data sets by
their names. Each becomes an `Inputs`: `files` reads image files, `arrays` the rows of an array, of which
`parquet` reads a column. `lists` reads lists of files and of labels, `prepare` brings what was read into
the form that a hash function takes.

Read first: `base`.
"""

from jaxhash.data.inputs.base import Block as Block
from jaxhash.data.inputs.base import Inputs as Inputs
from jaxhash.data.inputs.base import Item as Item
from jaxhash.data.inputs.opening import OpenedInputs as OpenedInputs
from jaxhash.data.inputs.opening import open_inputs as open_inputs
