"""Evaluation of any model's boxes: predictions in a file, zero-shot grounders."""
