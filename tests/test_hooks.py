"""A user's own pre- and postprocessing: the example of docs/serving.md, and what goes wrong."""

import base64
import io
import json
import re

import numpy as np
import pytest
from conftest import ROOT, run_tool
from PIL import Image, ImageOps

from ppcls_lite.deploy.hooks import load_hooks
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.errors import UserError

CAT = ROOT / "test_images/chelsea.jpg"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """hooks.py, as docs/serving.md shows it, and hooks that misbehave."""
    text = (ROOT / "docs/serving.md").read_text()
    (code,) = re.findall(r"```python\n(# hooks\.py\n.*?)```", text, re.S)
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "hooks.py").write_text(code)
    (folder / "others.py").write_text(
        "import numpy as np\n"
        "from ppcls_lite.errors import UserError\n"
        "class Refusing:\n"
        "    def preprocess(self, image, info):\n"
        "        if image.width > 400: raise UserError('a picture that is too wide')\n"
        "        return info.preprocess.normalize(info.preprocess.pixels(image)[None])[0]\n"
        "class Empty: pass\n"
        "class Broken:\n"
        "    def postprocess(self, probs, info): raise KeyError('a defect')\n"
    )
    return folder


def by_hand(exported) -> dict:
    """What the example's hooks say of the cat, made with Pillow and a Predictor without hooks."""
    predictor = Predictor(exported)
    contrast = ImageOps.autocontrast(Image.open(CAT).convert("RGB"))
    best = predictor(contrast, topk=1)[0][0]
    plain = predictor(CAT, topk=1)[0][0]
    assert (best.class_id, best.prob) != (plain.class_id, plain.prob)
    sure = best.prob > 0.5
    return {"label": best.name if sure else "unknown", "sure": sure}


def test_the_documents_example_in_python(exported, example):
    hooks = load_hooks(f"{example / 'hooks.py'}:Hooks")
    predictor = Predictor(exported, preprocess=hooks.preprocess, postprocess=hooks.postprocess)
    assert predictor(CAT) == [by_hand(exported)]
    assert predictor([CAT] * 3) == [by_hand(exported)] * 3


def test_one_of_the_two_is_enough_and_float32_is_read_as_it_is(exported, example):
    plain = Predictor(exported)
    spec = plain.info.preprocess

    def upside_down(image, info):
        return spec.normalize(spec.pixels(ImageOps.flip(image))[None])[0]

    (ranking,) = Predictor(exported, preprocess=upside_down)(CAT, topk=3)
    assert ranking == plain(ImageOps.flip(Image.open(CAT)), topk=3)[0]
    (probs,) = Predictor(exported, postprocess=lambda probs, info: probs)(CAT)
    (ranking,) = plain(CAT, topk=10)
    assert [probs[p.class_id] for p in ranking] == pytest.approx([p.prob for p in ranking])


@pytest.mark.parametrize(
    "made",
    [
        np.zeros((64, 63, 3), np.uint8),
        np.zeros((3, 64, 64)),
        np.zeros((64, 64, 3), np.float32),
        None,
    ],
    ids=["size", "float64", "channels last", "nothing"],
)
def test_what_preprocess_may_not_return_is_told(exported, made):
    with pytest.raises(TypeError, match=r"allowed: uint8 \[64, 64, 3\] or float32 \[3, 64, 64\]"):
        Predictor(exported, preprocess=lambda image, info: made)(CAT)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hooks", "MODULE:OBJECT"),
        ("no_such_module:Hooks", "No module named 'no_such_module'"),
        ("{folder}/none.py:Hooks", "no file"),
        ("{folder}/hooks.py:Hook", "has no Hook"),
        ("{folder}/others.py:Empty", "has neither preprocess"),
    ],
)
def test_hooks_that_cannot_be_used_are_named(example, name, told):
    with pytest.raises(UserError, match=told):
        load_hooks(name.format(folder=example))


def test_a_module_is_imported_as_python_finds_it(example, monkeypatch):
    monkeypatch.syspath_prepend(example)
    assert load_hooks("others:Refusing").preprocess


@pytest.fixture
def serving():
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(name)
    from serving import serving

    return serving


def test_the_documents_example_served(exported, example, tmp_path, serving):
    expected = by_hand(exported)
    with serving(exported, tmp_path / "log", f"--hooks={example / 'hooks.py'}:Hooks") as server:
        answer = server.post("/predict?seen=true", CAT.read_bytes()).json()
        (result,) = answer["results"]
        assert result["result"] == expected and "topk" not in result
        seen = Image.open(io.BytesIO(base64.b64decode(result["seen"].partition(",")[2])))
        contrast = ImageOps.autocontrast(Image.open(CAT).convert("RGB"))
        spec = Predictor(exported).info.preprocess
        assert np.array_equal(np.asarray(seen), spec.pixels(contrast))
        value = base64.b64encode(CAT.read_bytes()).decode()
        body = json.dumps({"key": ["image"], "value": [value]})
        reply = server.post("/imagenet/prediction", body).json()
        assert (reply["err_no"], reply["key"]) == (0, ["result"])
        assert reply["value"] == [str([expected])]


def test_a_hook_may_refuse_a_picture_and_what_it_made_is_shown(
    exported, example, tmp_path, serving
):
    plain = Predictor(exported)
    with serving(exported, tmp_path / "log", f"--hooks={example}/others.py:Refusing") as server:
        refused = server.post("/predict", CAT.read_bytes())
        assert refused.status_code == 400 and "too wide" in refused.json()["error"]
        small = Image.open(CAT).resize((300, 200))
        file = io.BytesIO()
        small.save(file, "PNG")
        answer = server.post("/predict?seen=true&topk=3", file.getvalue()).json()
        (result,) = answer["results"]
        assert result["topk"] == [vars(p) for p in plain(small, topk=3)[0]]
        seen = Image.open(io.BytesIO(base64.b64decode(result["seen"].partition(",")[2])))
        assert np.array_equal(np.asarray(seen), plain.info.preprocess.pixels(small))


def test_a_defect_of_a_hook_is_a_500_and_the_server_goes_on(exported, example, tmp_path, serving):
    with serving(exported, tmp_path / "log", f"--hooks={example}/others.py:Broken") as server:
        for _ in range(2):
            assert server.post("/predict", CAT.read_bytes()).status_code == 500
        assert "a defect" in server.wait_for("traceback")["traceback"]
        assert len(server.workers()) == 1


def test_wrong_hooks_end_the_command_before_anything_starts(exported, example, serving):
    flag = f"--hooks={example}/hooks.py:Hook"
    done = run_tool("tools/serve.py", exported, "--port=0", flag)
    assert done.returncode == 2 and "has no Hook" in done.stderr


def test_an_application_takes_hooks_as_an_object(exported, example, serving):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from ppcls_lite.serving.app import create_app
    from ppcls_lite.serving.settings import ServeConfig

    hooks = load_hooks(f"{example / 'hooks.py'}:Hooks")
    app = create_app(ServeConfig(exported=str(exported), reload_seconds=0), hooks)
    with TestClient(app) as client:
        answer = client.post("/predict", content=CAT.read_bytes()).json()
    assert answer["results"] == [{"file": "", "result": by_hand(exported)}]
