"""Weights: files of six frameworks, their layouts, published ones, what a file says of itself."""
