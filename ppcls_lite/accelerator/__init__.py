"""VastModelZOO's accelerator path: its files, checks, a stand-in and evaluators."""
