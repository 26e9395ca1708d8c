"""The documents' exporter, without timm and torchvision."""

from _start import main

if __name__ == "__main__":
    main("export_timm_torchvision_model", __file__)
