"""Sphinx extension of this book: pictures that speak, light pages, formulas on every page, docstrings as written.

IPython and nbconvert keep a picture's alternative text in the output's metadata, under ``image/png`` -> ``alt``.
myst-nb reads width and height there and leaves the text out.

A notebook holds every frame of its explorers in itself. A page with all of them weighs megabytes before a reader has
moved anything, so on the page each frame is a file: the first ones are loaded with the page, the others when wanted.
"""

import base64
import hashlib
import re
import struct
from pathlib import Path

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


FRAME = re.compile(r'src=\\"data:image/png;base64,([A-Za-z0-9+/=]+)\\"')  # an image in HTML in JSON
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
REPEATED = {"exercise-content", "solution-content"}  # sphinx-exercise gives every exercise of a page the same id


# A signature over several lines is a list of definitions that defines nothing: "<dl> <dd>...</dd> </dl>" in a "<dt>".
SIGNATURE = re.compile(r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>', re.S)
# docutils' list of references holds, by its roles, no items.
REFERENCES = '<div role="list" class="citation-list">', '<div class="citation-list">'


def plain_lists(body: str) -> str:
    """A page's HTML without lists that are none: a screen reader would announce them and find nothing in them."""

    def plain(found: re.Match) -> str:
        return found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")

    return SIGNATURE.sub(plain, body).replace(*REFERENCES)


def frames_to_files(state: str, folder: Path, address: str) -> str:
    """A page's widget state with every PNG that it holds written to ``folder``, and named by its address and size.

    Without the size, the text below a frame would jump when the frame arrives.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def to_file(found: re.Match) -> str:
        data = base64.b64decode(found[1])
        width, height = struct.unpack(">II", data[16:24])  # of PNG's first chunk, IHDR
        name = f"frame-{hashlib.sha256(data).hexdigest()[:20]}.png"
        (folder / name).write_bytes(data)
        return rf"src=\"{address}/{name}\" width=\"{width}\" height=\"{height}\""

    return FRAME.sub(to_file, state)


def on_page(app, pagename, templatename, context, doctree):
    """Before a page is written, after myst-nb has added its widgets to it."""
    context["body"] = plain_lists(context.get("body", ""))
    images = app.builder.imagedir  # "_images"
    scripts = context.get("script_files", [])
    for place, script in enumerate(scripts):
        options = dict(getattr(script, "attributes", {}))
        if options.get("type") == WIDGET_STATE:
            options["body"] = frames_to_files(options["body"], Path(app.outdir, images), context["pathto"](images, 1))
            scripts[place] = type(script)(script.filename, priority=script.priority, **options)


def on_resolved(app, doctree, docname):
    """An id stands once on a page; nothing links to these."""
    for node in doctree.findall(lambda item: REPEATED & set(getattr(item, "attributes", {}).get("ids", ()))):
        node["ids"] = [name for name in node["ids"] if name not in REPEATED]


def setup(app):
    from myst_nb.core.render import NbElementRenderer

    if not getattr(NbElementRenderer.render_image, "speaks", False):
        NbElementRenderer.render_image = with_alt(NbElementRenderer.render_image)
    app.set_html_assets_policy("always")  # a widget's label may hold maths on a page that holds none
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    app.connect("doctree-resolved", on_resolved)
    app.connect("html-page-context", on_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
