"""Zero-shot annotation (``optisar annotate``): boxes and captions, from a pool, for images that have none."""
