"""Reading sources as their authors publish them."""
