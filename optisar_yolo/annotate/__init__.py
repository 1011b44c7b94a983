"""Zero-shot annotation (``optisar annotate``): boxes and captions, from a pool, for pictures that have none."""
