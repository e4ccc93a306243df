"""``python -m l2e_min`` and the console script ``l2e``."""

import sys


def main(argv: list[str] | None = None) -> int:
    """Runs the command line of the lab; says what to install where the lab's packages are missing."""
    try:
        from l2e_min.lab.cli import main as lab_main
    except ModuleNotFoundError as error:
        print(
            f'l2e: the command line needs the package {error.name!r}; run: pip install "l2e-min[lab]"', file=sys.stderr
        )
        return 2
    return lab_main(argv)


if __name__ == "__main__":
    sys.exit(main())
