"""What help says that no parser knows: the commands, the main options, and examples.

Nothing is imported here that takes time, so that help is there at once.
"""

from collections.abc import Mapping, Sequence

#: Words that ask for help, and for all options of a command.
HELP, FULL_HELP = ("-h", "--help"), "--help-all"

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

#: Of every command.
ALWAYS = "--quiet, with any command, shows no progress."

#: Printed by ``jaxhash --help``.
COMMANDS = f"""\
usage: jaxhash COMMAND ...

Learn binary hash codes for retrieval.

train and evaluate:
  train          train a run and evaluate it, or go on with one that was stopped
  evaluate       a finished run again, or codes made by anything
  report         numbers, plots and neighbors of runs, as one page

codes and search:
  fit            a hash function without labels or training, and an index
  encode         images or vectors by a run, into an index
  index          add to an index, remove, compact, verify
  search         the nearest items of an index
  serve          a page to search an index by image, and a JSON API
  dedupe         groups of near duplicates in an index
  export         a hash function or an index, in another form

data:
  data check     sizes, overlaps and labels of a split; status 1 if it leaks
  data index     the records of shards, or the images of a folder, read once
  data features  a data set's features by a published backbone, as a file
  data captions  embeddings of captions, as such a file

cost:
  bench          time the losses or the input on this machine
  compile        what a training needs on TPUs or GPUs that are not here

jaxhash COMMAND --help lists the options of a command; --version prints the version.
{ALWAYS}

examples:
  jaxhash train --epochs 20
  jaxhash evaluate runs/digits-hashnet-hswd-32bit-seed0
  jaxhash encode runs/digits-hashnet-hswd-32bit-seed0 digits --output index
  jaxhash search index id:0"""

_DATA = f"""\
usage: jaxhash data COMMAND ...

Check a split, or prepare data, once.

  check     sizes, overlaps and labels of a split; status 1 if it leaks
  index     the records of shards, or the images of a folder, read once
  features  a data set's features by a published backbone, as a file
  captions  embeddings of captions, as such a file

jaxhash data COMMAND --help lists the options of a command.
{ALWAYS}

examples:
  jaxhash data check --dataset digits --queries-per-class 20 --train-per-class 80
  jaxhash data index folder:photos
  jaxhash data captions --captions captions.txt --output captions.npz"""

#: The help of a training; in braces stand fields of the configuration.
_TRAIN = (
    """\
usage: jaxhash train [PRESET] [--OPTION VALUE ...]

Train a run and evaluate it, or go on with one that was stopped.

presets:
  digits-hashnet-hswd            1,797 handwritten digits, embedded
  fashion-mnist-hashnet-hswd     Fashion-MNIST through TFDS, with a small CNN
  cifar10-features-hashnet-hswd  MobileNetV2 features of CIFAR-10, with an MLP
  cifar10-features-METHOD        other methods, such as csq, on these features

main options, with the values of {preset}:
  --dataset NAME    digits, tfds:NAME, features:FILE, shards:DIR, or folder:DIR with a folder of images for each class (default: {dataset})
  --data-dir DIR    folder of the files and of the TFDS sets
  --run-dir DIR     folder of the run (default: in runs/, named by preset, objective, bits and seed)
  --model NAME      backbone: cnn, resnet50, vit-b16 or others of images, mlp or linear of vectors (default: {model})
  --bits N          length of a code (default: {bits})
  --objective NAME  method; --objective help prints a table of them (default: {objective})
  --quantizer NAME  penalty that makes codes binary; none, or own for that of the method (default: {quantizer})
  --epochs N        passes over the training items (default: {epochs})
  --batch-size N    images a step, over all devices (default: {batch_size})
  --seed N          of initialization, order and augmentation (default: {seed})

"""
    + f"""\
--help-all lists all presets, and all options by data, model, objective, optimizer and run.
{ALWAYS}"""
)

_COMPILE = f"""\
usage: jaxhash compile [PRESET|RUN] --for TARGET [--OPTION VALUE ...]

Compile the training step and the encoder of a run for accelerators that are not here, and say what they need there: memory, operations, bytes, and what devices exchange. Nothing is run.

main options:
  --for TARGET         v5e:2x4 and other slices of v5e, v6e and v5p; h200:8, h100 or a100
  --output FILE        what is printed, as JSON too
  --items N            training items of data that are not here, with
  --classes N          their classes and
  --input-shape SHAPE  one input: 224x224x3, or the dimensions of a vector

--help-all lists all options, with those of jaxhash train.
{ALWAYS}"""

#: The first preset, and its values of the main options: its module takes a second to import.
FIRST_PRESET = "digits-hashnet-hswd"
MAIN_VALUES = {
    "dataset": "digits",
    "model": "mlp",
    "bits": 32,
    "objective": "hashnet",
    "quantizer": "hswd",
    "epochs": 200,
    "batch_size": 100,
    "seed": 0,
}

#: Commands at the end of help, by the command that they are of.
EXAMPLES = {
    "train": """\
  jaxhash train --epochs 20 --run-dir runs/short
  jaxhash train folder:photos --model cnn --bits 64 --run-dir runs/photos
  jaxhash train cifar10-features-csq --data-dir data --run-dir runs/csq
  jaxhash train --seeds 5 --sweep quantizer-weight=0.01,0.1,1
  jaxhash train --objective help
  jaxhash train --dry-run""",
    "evaluate": """\
  jaxhash evaluate runs/digits-hashnet-hswd-32bit-seed0
  jaxhash evaluate codes.npz --k 100
  jaxhash evaluate codes.npz --convention all --output results.json""",
    "report": """\
  jaxhash report runs/one runs/other --html report.html""",
    "fit": """\
  jaxhash fit digits --method itq --bits 32 --output index
  jaxhash fit vectors.npy --method pca-rotation --bits 64 --output index""",
    "encode": """\
  jaxhash encode runs/digits-hashnet-hswd-32bit-seed0 digits --output index
  jaxhash encode runs/photos photos --output index --keep-floats float16""",
    "index": """\
  jaxhash index index
  jaxhash index index --add more-photos
  jaxhash index index --remove label=cat --compact --verify""",
    "search": """\
  jaxhash search index photo.jpg --k 20
  jaxhash search index id:0 --radius 3 --json
  jaxhash search index queries --html found.html""",
    "serve": """\
  jaxhash serve index
  jaxhash serve index --port 0 --host 0.0.0.0""",
    "dedupe": """\
  jaxhash dedupe index --radius 2
  jaxhash dedupe index --radius 2 --html duplicates.html""",
    "export": """\
  jaxhash export runs/photos --to onnx --output photos.onnx
  jaxhash export index --to faiss --output index.faiss""",
    "data check": """\
  jaxhash data check --dataset digits --queries-per-class 20 --train-per-class 80
  jaxhash data check --lists lists --json findings.json""",
    "data index": """\
  jaxhash data index folder:photos --image-size 224
  jaxhash data index shards:shards --data-dir data""",
    "data features": """\
  jaxhash data features --backbone efficientnet-lite0 --weights pretrained --dataset folder:photos --output photos.npz""",
    "data captions": """\
  jaxhash data captions --captions captions.txt --output captions.npz --pool""",
    "bench": """\
  jaxhash bench --preset growth
  jaxhash bench --losses select sort --batch-sizes 128 1024 --bits 64
  jaxhash bench --for v5e:2x4
  jaxhash bench --data
  jaxhash bench --compare one.json other.json""",
    "compile": """\
  jaxhash compile --for v5e:2x4
  jaxhash compile --for h200:8 --model resnet50 --items 1000000 --classes 1000 --input-shape 224x224x3""",
}


def short_help(verb: str, words: Sequence[str]) -> str | None:
    """Returns help that needs no parser, if the words after a verb ask for it."""
    asked = bool(words) and words[0] in HELP
    if verb == "data" and (asked or list(words) in ([], [FULL_HELP])):
        return _DATA
    if verb == "train" and asked:
        return train_help(FIRST_PRESET, MAIN_VALUES)
    if verb == "compile" and set(HELP) & set(words):
        return f"{_COMPILE}\n\n{examples('compile')}"
    return None


def train_help(preset: str, values: Mapping[str, object]) -> str:
    """Returns the main options of a training, with the values of a preset."""
    return f"{_TRAIN.format(preset=preset, **values)}\n\n{examples('train')}"


def examples(command: str) -> str:
    """Returns the examples of a command, under their title."""
    return f"examples:\n{EXAMPLES[command]}"
