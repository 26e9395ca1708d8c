"""How far a layer is from the last one, in blocks."""

from paddle import nn

from ppcls_lite.arch.layers import InvertedResidual


def depths(model: nn.Layer) -> dict[int, int]:
    """Returns for the id() of each layer how many blocks lie between it and the logits.

    The last linear layer is 0, what lies between it and the last inverted residual block 1, each
    block one more, and the stem, with all before the first block, the most.
    """
    layers = model.sublayers(include_self=True)
    blocks = [layer for layer in layers if isinstance(layer, InvertedResidual)]
    inside = {
        id(layer): number
        for number, block in enumerate(blocks, 1)
        for layer in block.sublayers(include_self=True)
    }
    place, places = 0, {}
    for layer in layers:  # in the order of the forward pass
        if id(layer) not in inside:
            place = 0 if place == 0 else len(blocks) + 1
        else:
            place = inside[id(layer)]
        places[id(layer)] = place
    head = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    places[id(head)] = len(blocks) + 2
    return {key: len(blocks) + 2 - place for key, place in places.items()}
