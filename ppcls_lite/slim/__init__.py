"""Smaller networks: quantization-aware training (PACT) and filter pruning (FPGM)."""
