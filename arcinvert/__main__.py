"""The command line: ``arcinvert ...`` or ``python -m arcinvert ...``."""

from arcinvert.cli import run


def main() -> None:
    """Run and exit with the code of :mod:`arcinvert.errors`."""
    raise SystemExit(run())


if __name__ == "__main__":
    main()
