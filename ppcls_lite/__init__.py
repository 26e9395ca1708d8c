"""MobileNetV3 and MnasNet in PaddlePaddle: train, check, export, serve."""

__version__ = "0.1.0"
