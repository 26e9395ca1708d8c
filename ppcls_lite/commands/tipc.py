"""`tipc`: runs test chains and says which step failed."""

from pathlib import Path

from ppcls_lite.errors import UserError
from ppcls_lite.tipc import report
from ppcls_lite.tipc.chains import chain, cpu_subset
from ppcls_lite.tipc.settings import TipcConfig
from ppcls_lite.tipc.steps import FAILED, PASSED, run_chain
from ppcls_lite.tipc.table import CONFIGS, write_files

SKIPPED_STATUS = 77  # what automake and meson call skipped


def run(config: TipcConfig) -> int:
    """Runs one chain, or all of the CPU subset.

    Returns:
        1 when a step failed; 77 when none did but some were skipped; 0 when all passed.
    """
    config.require("mode")
    if not Path("train.py").is_file():
        raise UserError(
            f"--mode {config.mode}: the folder {Path.cwd()} has no train.py",
            "cd into the checkout, the folder that holds train.py",
        )
    if config.mode == "configs":
        print(f"wrote {write_files()} files into {CONFIGS}")
        return 0
    output = Path(config.output)
    if config.mode == "cpu":
        chains, junit = cpu_subset(output), output / "junit.xml"
    else:
        config.require("config_file")
        chosen = chain(config.mode, Path(config.config_file), output, config.only_prepare)
        chains, junit = [chosen], chosen.results.with_suffix(".xml")
    outcomes = []
    for each in chains:
        print(f"{each.name} {each.model} {each.mode}", flush=True)
        outcomes.append(run_chain(each))
        report.write_junit(junit, outcomes)
    print("\n".join(["", *report.table(outcomes), f"{each.results}" if len(chains) == 1 else "",
                     str(junit)]))  # fmt: skip
    states = {outcome.result for outcome in outcomes}
    if FAILED in states:
        return 1
    return 0 if states == {PASSED} else SKIPPED_STATUS
