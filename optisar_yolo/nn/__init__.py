"""The network: patch-level mixture of experts, text-guided fusion, grounding head, loss and text encoders."""
