"""The command line ``l2e``: a table of commands, each a module that is imported when it is called and not before.

A module ``l2e_min.lab.commands.<name>`` has HELP and EXAMPLE (each one line, written out as a plain string),
``add_arguments(parser)`` and ``run(arguments) -> int``; it raises ``UserError`` on bad input.

Exit status: what ``run`` returns; 2 for bad input, with one line on standard error; 130 after Ctrl-C.
"""

import argparse
import ast
import importlib
import os
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from l2e_min.lab.errors import UserError

COMMANDS = ("pretrain", "finetune", "study", "bench", "claims", "workshop")
"""In the order of the help text. A command is listed when its module is there, not before."""

PACKAGE = "l2e_min.lab.commands"


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, and where the help is."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see: {self.prog} --help)")


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status. ``argv``: the words after ``l2e`` (default: from the shell)."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # a terminal without ✓ gets a question mark, not a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(argv)
        sys.stdout.flush()  # a closed pipe shows here, where it can be handled
        return status
    except UserError as error:
        print(f"l2e: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("l2e: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has gone: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: list[str]) -> int:
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser = _parser(chosen)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    return int(importlib.import_module(f"{PACKAGE}.{arguments.command}").run(arguments))


def _parser(chosen: str | None) -> Parser:
    """The parser; only the chosen command is imported and gets its arguments."""
    parser = Parser(
        prog="l2e",
        description="Finding and inhibiting monosemantic neurons: the experiments under the book.",
        epilog="example: l2e claims\nhelp on one command: l2e claims --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"l2e {metadata.version('l2e-min')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in filter(is_built, COMMANDS):
        texts = help_texts(name)
        command = commands.add_parser(
            name,
            help=texts["HELP"],
            description=f"{texts['HELP'][0].upper()}{texts['HELP'][1:]}.",
            epilog=f"example: {texts['EXAMPLE']}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            importlib.import_module(f"{PACKAGE}.{name}").add_arguments(command)
    return parser


def is_built(name: str) -> bool:
    """Whether the module of a command is there."""
    return find_spec(f"{PACKAGE}.{name}") is not None


def help_texts(name: str) -> dict[str, str]:
    """HELP and EXAMPLE of a command, read from its source without importing it (an import may pull in torch)."""
    source = find_spec(f"{PACKAGE}.{name}").origin  # type: ignore[union-attr]
    texts = {}
    for statement in ast.parse(Path(source).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            if statement.targets[0].id in ("HELP", "EXAMPLE"):
                texts[statement.targets[0].id] = ast.literal_eval(statement.value)
    return texts
