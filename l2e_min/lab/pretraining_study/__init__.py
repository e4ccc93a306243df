"""Chapter 7's comparison: every method and control, pretrained alike, each at its own best learning rate."""
