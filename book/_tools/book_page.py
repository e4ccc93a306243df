"""Sphinx extension of this book: pictures that speak, formulas on every page, docstrings as they are written.

IPython and nbconvert keep a picture's alternative text in the output's metadata, under ``image/png`` -> ``alt``.
myst-nb reads width and height there and leaves the text out.
"""

import re

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields)( \(.*\))?:")  # whose indented lines are no code


def with_alt(render):
    """Wraps a renderer's method ``render_image`` so that it passes the alternative text on."""

    def render_image(self, data):
        found = render(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for node in found if alt else ():
            for image in node.findall(lambda item: item.tagname == "image"):
                image["alt"] = alt
        return found

    render_image.speaks = True
    return render_image


def indented_is_code(lines: list[str]) -> list[str]:
    """A docstring's lines with every indented block of its text marked as code: help() needs no mark, Sphinx does."""
    found, inside, before = [], False, ""
    for line in lines:
        if heading := SECTION.fullmatch(line):
            line = f"{heading[1]}:"  # "Attributes (buffers, no parameters):" is unknown to napoleon
        indented = line.startswith("    ")
        if indented and not inside and not SECTION.fullmatch(before):
            found += ["::", ""]
        if line.strip():
            inside, before = indented, line if not indented else before
        found.append(line)
    return found


def on_docstring(app, what, name, obj, options, lines):
    """Before napoleon reads the docstring."""
    lines[:] = indented_is_code(lines)


def setup(app):
    from myst_nb.core.render import NbElementRenderer

    if not getattr(NbElementRenderer.render_image, "speaks", False):
        NbElementRenderer.render_image = with_alt(NbElementRenderer.render_image)
    app.set_html_assets_policy("always")  # a widget's label may hold maths on a page that holds none
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
