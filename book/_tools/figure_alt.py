"""Sphinx extension: gives the pictures of a notebook the alternative text that their outputs carry.

IPython and nbconvert keep the text in the output's metadata, under ``image/png`` -> ``alt``; myst-nb reads width and
height there and leaves this one out.
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

    return render_image


def setup(app):
    from myst_nb.core.render import NbElementRenderer

    if not getattr(NbElementRenderer.render_image, "speaks", False):
        NbElementRenderer.render_image = with_alt(NbElementRenderer.render_image)
        NbElementRenderer.render_image.speaks = True
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
