"""Checks a bundle or a build YAML."""

from _start import main

if __name__ == "__main__":
    main("accelerator_lint", __file__)
