"""The arithmetic of int8 graphs: ranges of activations, QuantizeLinear and DequantizeLinear."""
