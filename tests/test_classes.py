"""Which class is which: names, wnids, ids, subsets, and the cases in which nobody can know."""

import gzip
import json
import random
import subprocess
import unicodedata

import pytest
from conftest import ROOT

from ppcls_lite.data.classes import NONE, ClassSet, match_classes, match_names, warnings
from ppcls_lite.data.imagenet import imagenet_labels, imagenet_names, spoken_name, wnids_of
from ppcls_lite.errors import UserError

# What torchvision, timm, gluoncv, mmpretrain and Keras call the 1000 classes, read from their code.
SPELLINGS = json.loads(gzip.decompress((ROOT / "tests/golden/class_names.json.gz").read_bytes()))
WNIDS = SPELLINGS["wnid"]
EVERY = list(SPELLINGS)


def network(names, count=None):
    names = tuple(names)
    return ClassSet("net.pdparams", names, len(names) if count is None else count)


def folders(names, **more):
    names = tuple(names)
    return ClassSet("val", names, len(names), **more)


def listed(numbers, **more):
    """What a list without labels.txt gives."""
    return ClassSet("val", tuple(map(str, numbers)), len(numbers), tuple(numbers), **more)


def refused(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    return caught.value


# Names


@pytest.mark.parametrize("theirs", EVERY)
@pytest.mark.parametrize("ours", EVERY)
def test_every_projects_spelling_of_imagenet_is_every_others(ours, theirs):
    match = match_classes(network(SPELLINGS[ours]), folders(SPELLINGS[theirs]))
    assert match.is_identity and not match.unknown and not match.lacking


@pytest.mark.parametrize("theirs", EVERY)
@pytest.mark.parametrize("ours", EVERY)
def test_subsets_of_imagenet_are_found_in_every_spelling(ours, theirs):
    cranes = {134, 517, 638, 639}  # of two names each is the same for two classes
    for seed in range(5):
        chosen = sorted(set(random.Random(seed).sample(range(1000), 100)) - cranes)
        names = [SPELLINGS[theirs][i] for i in chosen]
        match = match_classes(network(SPELLINGS[ours]), folders(names))
        assert match.ids == tuple(chosen)
        assert len(match.lacking) == 1000 - len(chosen) and not match.unknown
        # And the other way: a network of a few classes sees pictures of them only.
        shuffled = random.Random(seed).sample(names, len(names))
        small = match_classes(network([SPELLINGS[ours][i] for i in chosen]), folders(shuffled))
        assert small.ids == tuple(names.index(name) for name in shuffled)


def test_our_labels_are_torchvisions():
    assert list(imagenet_labels()) == SPELLINGS["torchvision"]
    assert imagenet_names(1000) == imagenet_labels() and imagenet_names(999) == ()


@pytest.mark.parametrize(
    "name",
    ["n02085620", "n02085620-Chihuahua", "n02085620_Chihuahua", "n02085620 Chihuahua",
     "Chihuahua (n02085620)", "chihuahua", "CHIHUAHUA", "Chihuahua"],
)  # fmt: skip
def test_a_wnid_counts_wherever_it_stands_in_a_name(name):
    match = match_classes(network(imagenet_labels()), folders([name]))
    assert match.ids == (151,)


@pytest.mark.parametrize("name", ["an02085620", "n020856201", "n0208562", "nn02085620"])
def test_what_only_looks_like_a_wnid_is_none(name):
    assert wnids_of([name]) == [()]


def test_wnids_beyond_imagenet_1k_are_matched_too():
    match = match_classes(network(["n00004475", "n00005787"]), folders(["n00005787 benthos"]))
    assert match.ids == (1,)


def test_two_classes_with_one_name_are_told_apart_by_the_others():
    net = network(WNIDS)
    assert match_classes(net, folders(["crane bird", "crane"])).ids == (134, 517)
    assert match_classes(net, folders(["crane", "hen", "crane"])).ids == (134, 8, 517)
    assert match_classes(net, folders(["maillot", "maillot, tank suit"])).ids == (638, 639)
    assert match_classes(net, folders(["Cardigan", "cardigan"])).ids == (264, 474)
    # torchvision's network has the very name.
    assert match_classes(network(imagenet_labels()), folders(["crane"])).ids == (517,)


def test_one_crane_stops_and_shows_both(tmp_path):
    (tmp_path / "crane").mkdir()
    data = folders(["crane", "hen"], place=str(tmp_path))
    error = refused(match_classes, network(WNIDS), data)
    assert "class 134, crane bird (n02012849)" in error.message
    assert "class 517, crane (n03126707)" in error.message
    subprocess.run(["bash", "-c", error.hint], check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["n02012849"]


def test_names_that_differ_in_unicode_form_case_or_underscores_are_the_same():
    names = ["Café", "great white shark", "Ä/ß", "ﬁsh", "07"]
    spelled = [unicodedata.normalize("NFD", "CAFÉ"), "Great_White__Shark", "ä/SS", "FISH", "7"]
    match = match_classes(network(names), folders(spelled))
    assert match.ids == (0, 1, 2, 3, 4) and "is Café" in match.how
    # The very name wins where several differ in case only, and nothing is guessed where none does.
    pair = network(["Polish", "polish"])
    assert match_classes(pair, folders(["polish"])).ids == (1,)
    error = refused(match_classes, pair, folders(["POLISH"]))
    assert "fits several of net.pdparams: class 0, Polish or class 1, polish" in error.message


def test_names_that_are_not_utf8_are_only_themselves():
    match = match_classes(network(["\udcca\udcfd", "b"]), folders(["b", "\udcca\udcfd"]))
    assert match.ids == (1, 0)


def test_the_same_names_in_another_order_are_mapped():
    match = match_classes(network(["ant", "bee", "cat"]), folders(["cat", "ant"]))
    assert match.ids == (2, 0) and match.lacking == ("bee",) and not match.is_identity
    assert match.how == "2 of the 3 classes of net.pdparams, by name"


def test_a_class_the_network_lacks_is_an_error_only_with_pictures():
    net = network(["ant", "bee"])
    error = refused(match_classes(net, folders(["bee", "dog"])).complete, "HINT")
    assert error.hint == "HINT"
    assert "only in val: dog; only in net.pdparams: ant" in error.message
    match = match_classes(net, folders(["bee", "dog"], pictures=(3, 0)))
    assert match.complete("").ids == (1, NONE)


def test_fewer_names_than_classes():
    match = match_classes(network(["ant", "bee"], 5), folders(["bee"]))
    assert match.ids == (1,) and match.lacking == ("ant", "2", "3", "4")
    assert match_names(network([], 3), network(["a"], 3)).ids == (NONE, NONE, NONE)


# Ids


def test_ids_below_k_are_the_networks():
    for net in (network(WNIDS), network((), 1000), network(map(str, range(1000)), 1000)):
        match = match_classes(net, listed([0, 7, 999]))
        assert match.ids == (0, 7, 999)


def test_ids_from_1_to_k_are_shifted_and_said():
    for net in (network(WNIDS), network((), 1000)):
        match = match_classes(net, listed(range(1, 1001)))
        assert match.ids == tuple(range(1000)) and "count from 1" in match.how
    assert (
        "1 is class 0 of net.pdparams, tench (n01440764)"
        in match_classes(network(WNIDS), listed([1, 1000])).how
    )
    # With a 0 they are no such ids, and 1000 is none of them.
    error = refused(match_classes(network((), 1000), listed([0, 1000])).complete, "")
    assert "only in val: 1000" in error.message


def test_only_ids_that_have_pictures_tell_how_they_count():
    data = listed(range(4), pictures=(0, 2, 2, 2))  # a list whose largest id is 3
    assert match_classes(network(["a", "b", "c"]), data).ids == (NONE, 0, 1, 2)
    assert match_classes(network(["a", "b", "c", "d"]), data).ids == (0, 1, 2, 3)


def test_numeric_folders_and_a_list_of_ids():
    """Folders 0 to 11, which a network of an older build has in the order 0 1 10 11 2 ..."""
    train = ClassSet("train", tuple(map(str, range(12))), 12)
    assert match_classes(train, listed(range(12))).is_identity
    assert match_classes(train, listed([10, 2])).ids == (10, 2)
    older = network(sorted(map(str, range(12))))
    assert match_classes(older, folders(map(str, range(12)))).ids[:3] == (0, 1, 4)
    error = refused(match_classes, older, listed(range(12), place="DATA"))
    assert "by name: 2 is the class called 2, class id 4" in error.message
    assert "by id: 2 is class id 2, which is called 10" in error.message
    assert error.hint.startswith("seq 0 11 | sed 's/.*/& &/' > DATA/labels.txt")
    # Numbers from 1 that leave out the last class: the class called 1, or that with id 1?
    from_1 = ClassSet("train", tuple(map(str, range(1, 13))), 12)
    assert match_classes(from_1, listed(range(1, 13))).is_identity
    assert match_classes(from_1, listed(range(12))).is_identity
    assert "two readings fit" in refused(match_classes, from_1, listed(range(1, 12))).message


def test_zeros_before_a_folders_number_change_nothing():
    train = ClassSet("train", tuple(f"{i:02}" for i in range(12)), 12)
    assert match_classes(train, listed([3, 11])).ids == (3, 11)
    assert match_classes(train, folders(["3", "11"])).ids == (3, 11)


def test_two_lists_count_alike():
    """Both lists of one data set give a class the same number, wherever they begin."""
    train = ClassSet("train", ("1", "2", "3"), 3, (1, 2, 3))
    assert match_classes(train, listed([1, 2])).ids == (0, 1)
    error = refused(match_classes(train, listed([0, 1])).complete, "")
    assert "only in val: 0" in error.message
    # Names that were found in the paths of one list only.
    train = ClassSet("train", ("dog", "cat"), 2, (0, 1))
    assert match_classes(train, listed([0, 1])).is_identity


def test_names_found_in_a_lists_paths_come_before_its_numbers():
    data = ClassSet("val", ("dog", "cat"), 2, (0, 1))
    assert match_classes(network(["cat", "dog"]), data).ids == (1, 0)
    assert match_classes(network(["Katze", "Hund"]), data).ids == (0, 1)


# Order


def test_without_names_only_as_many_classes_in_their_order_will_do():
    for net in (network((), 3), network("012"), network("123")):
        match = match_classes(net, folders(["ant", "bee", "cat"]))
        assert match.is_identity and "in their order" in match.how
        assert match_classes(net, folders(["ant", "bee"])).unknown == ("ant", "bee")
    assert match_classes(network(["x", "y", "z"]), folders(["ant", "bee", "cat"])).unknown


def test_digits_are_no_rows_of_imagenet():
    """Fine-tuning ImageNet's weights on handwritten digits must not start from fishes."""
    digits = folders(map(str, range(10)))
    assert match_names(network(imagenet_labels()), digits).ids == (NONE,) * 10
    assert match_classes(network(imagenet_labels()), digits).ids == tuple(range(10))


# Words


def test_few_pictures_are_a_warning_that_names_the_classes():
    data = ClassSet("train", ("n01440764", "b", "c"), 4, pictures=(0, 1, 2, 0))
    assert warnings(data) == [
        "train has no image of 2 classes: tench (n01440764), 3",
        "train has a single image of class b",
    ]
    assert warnings(folders(["a"])) == []


def test_a_wnid_gets_its_name():
    assert spoken_name("n02012849") == "crane bird (n02012849)"
    assert spoken_name("n00004475") == "n00004475" and spoken_name("hen") == "hen"
