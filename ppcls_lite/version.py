"""The version of the package, for every module: the package itself imports them."""

__version__ = "0.1.0"
