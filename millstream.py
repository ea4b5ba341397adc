"""Millstream: declarative dataflow for devices, cameras and factories.

`python -m millstream` is the command line; `import millstream` is all that the author of a component needs.
"""


def main() -> None:
    """Run the command line."""
    from cli.main import app

    app()


if __name__ == "__main__":
    main()
else:
    from engine.api import *  # noqa: F403 - re-exported as it is
    from engine.api import __all__ as __all__
