"""Training, validation, prediction and their figures."""
