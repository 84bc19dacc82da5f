"""The control plane: one function per verb, and the admin API on top of them."""
