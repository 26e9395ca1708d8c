"""The accelerator path of documents 000 and 004: its files, checks, a stand-in and evaluators."""
