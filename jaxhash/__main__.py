"""``python -m jaxhash`` is the command ``jaxhash``."""

from jaxhash.cli import main

main()
