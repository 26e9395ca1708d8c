"""The card's tools and the stand-in: sim.py build | run | profile, and all other actions."""

from _start import run_file

if __name__ == "__main__":
    run_file(__file__)
