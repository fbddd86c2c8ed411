"""The command ``jaxhash``, also as ``python -m jaxhash``: it hears Ctrl-C before all that takes time."""

from jaxhash.training import guard


def main() -> None:
    """Run the command of this process's arguments."""
    guard.supervise()
    from jaxhash.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
