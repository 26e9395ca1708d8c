"""The stand-in of the accelerator: sim.py build | run | profile."""

from _start import main_of_action

if __name__ == "__main__":
    main_of_action(__file__)
