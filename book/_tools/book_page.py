"""Sphinx extension of this book: pictures that speak, and formulas on every page.

IPython and nbconvert keep a picture's alternative text in the output's metadata, under ``image/png`` -> ``alt``.
myst-nb reads width and height there and leaves the text out.
"""


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


def setup(app):
    from myst_nb.core.render import NbElementRenderer

    if not getattr(NbElementRenderer.render_image, "speaks", False):
        NbElementRenderer.render_image = with_alt(NbElementRenderer.render_image)
    app.set_html_assets_policy("always")  # a widget's label may hold maths on a page that holds none
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
