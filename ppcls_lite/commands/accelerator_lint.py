"""`accelerator lint`: what will go wrong on the card, before it does."""

from pathlib import Path

from ppcls_lite.accelerator.lint import lint_yaml
from ppcls_lite.accelerator.lint_bundle import lint_bundle
from ppcls_lite.accelerator.settings import AcceleratorLintConfig


def run(config: AcceleratorLintConfig) -> int:
    """Prints one line a finding.

    Returns:
        1 when one of them is an error, else 0.
    """
    config.require("path")
    path = Path(config.path)
    findings = lint_bundle(path) if path.is_dir() else lint_yaml(path, Path())
    for finding in findings:
        print(finding)
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{path}: {errors} errors, {len(findings) - errors} warnings and notes")
    return int(errors > 0)
