"""Help of the commands that have others below them."""

#: The commands, each a module of `jaxhash.cli` with a function ``run``.
VERBS = (
    "train",
    "evaluate",
    "report",
    "fit",
    "encode",
    "index",
    "search",
    "serve",
    "dedupe",
    "export",
    "data",
    "bench",
    "compile",
)

_DATA = """\
  jaxhash data check --OPTION VALUE ...         sizes, overlaps and labels of a split; 1 if it leaks
  jaxhash data index DATASET --OPTION VALUE ... the records of shards, or the images of a folder, read once
  jaxhash data features --OPTION VALUE ...      a data set's features by a published backbone, as a file
  jaxhash data captions --OPTION VALUE ...      embeddings of captions, as such a file
"""

#: Printed by `jaxhash --help`, for which nothing is imported that takes time.
COMMANDS = f"""usage: jaxhash COMMAND ...

Learn binary hash codes for image retrieval.

  jaxhash train [PRESET] [--OPTION VALUE ...]   train, or go on with a run; --help lists presets and options
  jaxhash train --objective help                the methods, as a table
  jaxhash evaluate RUN [--data-dir DIR]         compute a finished run's metrics again
  jaxhash evaluate CODES [--OPTION VALUE ...]   evaluate codes made by anything, a .npz or .npy file
  jaxhash evaluate INDEX --database INDEX       evaluate a search of one index for the items of another
  jaxhash report RUN... --html FILE             numbers, plots and neighbors of runs, as one page
  jaxhash fit INPUT --method NAME --bits N --output DIR     a hash function without training, and an index
  jaxhash encode RUN INPUT... --output DIR      codes of images or vectors by a run, as an index
  jaxhash index DIR [--OPTION VALUE ...]        add to an index, remove, compact, verify
  jaxhash search DIR QUERY... [--k N]           the nearest items of an index
  jaxhash serve DIR [--port N]                  a page to search an index by image, and a JSON API
  jaxhash dedupe DIR --radius R                 groups of near duplicates in an index, as a list and a page
  jaxhash export RUN|DIR --to NAME --output PATH    a hash function, or an index, in another form
{_DATA}\
  jaxhash bench [--OPTION VALUE ...]            time the losses on this machine; --help lists all options
  jaxhash bench --for TARGET                    what the losses ask of accelerators that are not here
  jaxhash bench --compare FILE ...              what several machines measured, in one table and plot
  jaxhash bench --data [NAME ...]               images a second: decoding, augmentation, the whole input
  jaxhash compile [PRESET|RUN] --for TARGET     what a training needs on TPUs or GPUs that are not here
  jaxhash --version

--quiet, with any command, shows no progress."""

#: Printed by `jaxhash data --help`.
DATA_COMMANDS = f"""usage: jaxhash data COMMAND ...

{_DATA}
--help after a command lists all its options"""
