"""Int8 and half precision as graph rewriting: calibration in `calibrate`, the graphs in `qdq`."""
