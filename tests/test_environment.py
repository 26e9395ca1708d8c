"""What is settled before Paddle is imported."""

import subprocess
import sys

from conftest import ROOT

PACKAGES = {
    "late.py": "print('late')\nword = 'here'",
    "outer/__init__.py": "from . import inner",
    "outer/inner/__init__.py": "print('inner')\nfrom .part import name",
    "outer/inner/part.py": "print('part')\nname = 'part'",
    "asks.py": "import late, outer\nimport outer.inner.part as part",
}
CODE = """
import sys
from ppcls_lite.environment import _postponed
with _postponed("late", "outer.inner", "no_such_package"):
    import asks
print([name for name in sys.modules if name.startswith(("late", "outer", "no_such"))])
print(hasattr(asks.late, "__file__"), asks.part.name, asks.late.word)
print(asks.outer.inner.name)
import late, outer.inner
print(late.word, outer.inner.__file__ is not None)
"""


def test_what_is_postponed_is_imported_at_its_first_use_and_only_then(tmp_path):
    for name, text in PACKAGES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]{CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "part",  # a module inside of one that is postponed
        "['outer', 'outer.inner.part']",
        "late",
        "False part here",
        "inner",
        "part",
        "here True",
    ]
