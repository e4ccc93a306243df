"""``l2e workshop``: student and teacher copies of the chapters."""

import argparse
from pathlib import Path

HELP = "write the chapters as notebooks for a workshop: student copies without the solutions, teacher copies with them"
EXAMPLE = "l2e workshop --out my-workshop --chapters 1 2 4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --out, --chapters and --force."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="writes DIR/student and DIR/teacher")
    parser.add_argument(
        "--chapters",
        nargs="+",
        metavar="NAME",
        help="numbers or names, such as 2 or 02_monosemantic_scale (default: all)",
    )
    parser.add_argument("--force", action="store_true", help="write over notebooks that are there already")


def run(arguments: argparse.Namespace) -> int:
    """Writes the notebooks, says where they are, and returns 0."""
    from l2e_min.lab.workshop.write import KINDS, write

    paths = write(arguments.out, arguments.chapters, arguments.force)
    for folder, solutions in KINDS.items():
        count = sum(path.parent.name == folder for path in paths)
        print(f"{arguments.out / folder}: {count} notebooks {'with' if solutions else 'without'} solutions")
    print("no cell has been run yet; open them in Jupyter, or in an editor that runs notebooks")
    return 0
