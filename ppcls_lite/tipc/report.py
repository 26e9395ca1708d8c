"""The summary of chains: a table for people, JUnit XML for machines."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ppcls_lite.files import write_atomically
from ppcls_lite.tipc.steps import FAILED, NOT_RUN, PASSED, SKIPPED, Outcome


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the lines of the summary; what was skipped is never counted as passed."""
    lines = [f"{'chain':<18}{'model':<24}{'mode':<25}{'steps':>6}{'seconds':>9}  result"]
    for each in outcomes:
        passed = sum(result.result == PASSED for result in each.results)
        lines.append(
            f"{each.chain.name:<18}{each.chain.model:<24}{each.chain.mode:<25}"
            f"{f'{passed}/{len(each.results)}':>6}{each.seconds:>9.1f}  {each.result}"
        )
        for result in each.results:
            if result.result in (FAILED, SKIPPED):
                lines.append(f"    {result.result} at {result.name!r}: {result.remark}")
    counts = Counter(each.result for each in outcomes)
    lines.append(
        f"{counts[PASSED]} chains passed, {counts[FAILED]} failed,"
        f" {counts[SKIPPED] + counts[NOT_RUN]} skipped (skipped is not passed)"
    )
    return lines


def write_junit(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes one test suite per chain, one test case per step."""
    root = ElementTree.Element("testsuites")
    for each in outcomes:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{each.chain.name} {each.chain.model} {each.chain.mode}",
            tests=str(len(each.results)),
            failures=str(sum(r.result == FAILED for r in each.results)),
            errors="0",
            skipped=str(sum(r.result in (SKIPPED, NOT_RUN) for r in each.results)),
            time=f"{each.seconds:.3f}",
        )
        for result in each.results:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"{each.chain.name}.{each.chain.model}",
                name=result.name,
                time=f"{result.seconds:.3f}",
            )
            if result.result != PASSED:
                tag = "failure" if result.result == FAILED else "skipped"
                message = _printable(result.remark or result.result)
                child = ElementTree.SubElement(case, tag, message=message)
                child.text = _printable(result.command)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _printable(text: str) -> str:
    """Returns a text without the control characters that XML has no place for."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", text)
