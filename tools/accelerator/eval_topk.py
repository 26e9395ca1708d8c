"""Top-1 and top-5 of a result text, with the documents' arguments."""

from _start import main

if __name__ == "__main__":
    main("eval_topk", __file__)
