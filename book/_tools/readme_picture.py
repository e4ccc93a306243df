"""Takes the README's picture from the welcome page, so that it shows what was measured and nothing older."""

import base64
import json
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1]
PICTURE = BOOK / "first_result.png"


def first_picture(notebook: Path = BOOK / "00_welcome.ipynb") -> bytes:
    """PNG bytes of the first figure in an executed notebook. ValueError: it has none."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/png"])
    raise ValueError(f"{notebook.name} has no stored figure; run make chapters")


def up_to_date() -> bool:
    """Whether the README's picture is the one the welcome page holds now."""
    return PICTURE.read_bytes() == first_picture()


if __name__ == "__main__":
    PICTURE.write_bytes(first_picture())
