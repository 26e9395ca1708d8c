"""Test chains in the convention of TIPC: train, evaluate, export, infer, with checked output."""
