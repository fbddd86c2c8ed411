"""The command ``jaxhash``, also as ``python -m jaxhash``.

Signals are handled before the slow imports, so that Ctrl-C works from the start.
"""

from jaxhash.training import guard


def main() -> None:
    """Runs the command with the arguments of this process."""
    guard.supervise()
    from jaxhash.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
