"""Training of our networks on a CPU through fused kernels; docs/kernels.md explains them."""
