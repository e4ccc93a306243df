"""Sphinx extension of this book: a cell that records a claim can be linked to, as ``page.html#measured-c01``."""

import re

RECORDED = re.compile(r"""claims\.record\(\s*["']([BC]\d\d)["']""")


def anchor(claim: str) -> str:
    """The last part of the address of the cell that records a claim."""
    return f"measured-{claim.lower()}"


def on_page(app, doctree):
    """Names the cells of a page."""
    for cell in doctree.findall(lambda node: "cell" in getattr(node, "attributes", {}).get("classes", ())):
        for claim in RECORDED.findall(cell.astext()):
            name = anchor(claim)
            if name not in cell["ids"] and name not in doctree.ids:
                cell["ids"].append(name)
                doctree.ids[name] = cell


def setup(app):
    app.connect("doctree-read", on_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
