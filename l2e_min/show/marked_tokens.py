"""A text with the tokens marked that triggered inhibition, as static HTML for light and dark pages."""

import html
from collections.abc import Collection, Sequence

from l2e_min.show.style import COLOURS

MOST = 0.4
"""Opacity of the background at the largest phi: the page's own ink stays readable on it, dark or light."""


def marked_html(
    tokens: Sequence[str], phi_by_token: Sequence[float], selected: Collection[int], *, caption: str = ""
) -> str:
    """Tokens in a row, the deeper blue the larger phi; selected ones framed and bold, so not by colour alone.

    Args:
        tokens: of one text, as the tokenizer has them; a piece that goes on with a word ("##ing") stands close to it.
        phi_by_token: the largest phi at each token, at least 0; depth of colour is its root against the largest.
        selected: positions that are inhibited.
        caption: a line above it; begins the alternative text, too.

    A token's title says its phi. Raises ValueError for columns of different lengths and positions that are not there.
    """
    if len(tokens) != len(phi_by_token):
        raise ValueError(f"{len(tokens)} tokens, but {len(phi_by_token)} values of phi")
    if bad := [i for i in selected if not 0 <= i < len(tokens)]:
        raise ValueError(f"selected positions {bad} are not among the {len(tokens)} tokens")
    if not all(phi >= 0 for phi in phi_by_token):
        raise ValueError("phi holds NaN or a value below 0")
    largest = max(phi_by_token, default=0) or 1.0
    red, green, blue = (int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5))
    spans = []
    for i, (token, phi) in enumerate(zip(tokens, phi_by_token, strict=True)):
        depth = MOST * (phi / largest) ** 0.5
        style = f"background:rgba({red},{green},{blue},{depth:.2f});padding:1px 2px;border-radius:3px"
        title = f"phi {phi:.1f}"
        name = "span"
        if i in selected:
            name, title = "strong", f"inhibited, {title}"
            style += f";outline:2px solid {COLOURS[1]};color:inherit"
        joint = "" if token.startswith("##") or not i else " "
        spans.append(f'{joint}<{name} style="{style}" title="{title}">{html.escape(token)}</{name}>')
    inhibited = ", ".join(f"{tokens[i]} (phi {phi_by_token[i]:.1f})" for i in sorted(selected)) or "none"
    alt = html.escape(f"{caption + ': ' if caption else ''}{len(tokens)} tokens; inhibited: {inhibited}", quote=True)
    head = f'<div style="font-style:italic">{html.escape(caption)}</div>' if caption else ""
    return (f'<div role="group" aria-label="{alt}" style="line-height:2;overflow-wrap:anywhere">'
            f"{head}{''.join(spans)}</div>")  # fmt: skip
