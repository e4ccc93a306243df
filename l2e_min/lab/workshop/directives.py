"""The book's directives (``:::{name} argument`` ... ``:::``) in a Markdown cell, and the same for plain Jupyter.

Jupyter shows directives and citations as they are written, without an extension; a workshop should need none.
"""

import re
from dataclasses import dataclass, field

OPEN = re.compile(r"(:{3,})\{([\w-]+)\} ?(.*)")
OPTION = re.compile(r":(\w+): ?(.*)")


@dataclass(frozen=True)
class Block:
    """A piece of a Markdown cell: plain text (name ``""``), or one directive."""

    name: str
    body: str
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)


def blocks(text: str) -> list[Block]:
    """The pieces of a cell in their order. ValueError: a directive that does not end."""
    found, plain = [], []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opened = OPEN.fullmatch(lines[at])
        if not opened:
            plain.append(lines[at])
            at += 1
            continue
        fence, name, argument = opened.groups()
        if fence not in lines[at + 1 :]:
            raise ValueError(f"the directive {lines[at]!r} does not end with {fence}")
        end = lines.index(fence, at + 1)
        body, options = lines[at + 1 : end], {}
        while body and (option := OPTION.fullmatch(body[0])):
            options[option[1]] = option[2]
            body = body[1:]
        found += [Block("", "\n".join(plain).strip("\n")), Block(name, "\n".join(body), argument, options)]
        plain, at = [], end + 1
    found.append(Block("", "\n".join(plain).strip("\n")))
    return [block for block in found if block.name or block.body]


def plain_markdown(text: str) -> str:
    """Roles as words, links between chapters as links between notebooks; what is left is Markdown."""
    text = re.sub(r"```\{bibliography\}[^`]*```", "", text)
    text = re.sub(r"\{cite(?::\w+)?\}`([^`]+)`", r"[\1]", text)
    text = re.sub(r"\{[\w:-]+\}`([^`]+)`", r"\1", text)
    text = re.sub(r"\[([^\]]+)\]\(\w+\.md[^)]*\)", r"\1", text)  # pages that are no notebooks
    return re.sub(r"\]\((\d\d_\w+)\)", r"](\1.ipynb)", text)


def quoted(title: str, body: str) -> str:
    """An admonition as a block quotation under its title."""
    lines = [f"**{title}**", "", *body.split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines)
