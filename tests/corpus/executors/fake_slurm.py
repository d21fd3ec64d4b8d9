"""The commands of Slurm for one machine: sbatch really runs the script, a process a task, and squeue shows it.

Copied under each command's name. The state lies in the folder that FAKE_SLURM names.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])


def option(script: str, name: str) -> str:
    found = re.search(rf"^#SBATCH --{name}=(.*)$", script, re.MULTILINE)
    return found[1] if found else ""


def sbatch(arguments: list[str]) -> None:
    if (STATE / "refuse").exists():
        sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
    script = Path(arguments[-1]).read_text()
    number = str(100 + len(list(STATE.glob("*.slurm"))))
    (STATE / f"{number}.slurm").write_text(script)
    (STATE / f"{number}.arguments").write_text(" ".join(arguments[:-1]))
    (STATE / f"{number}.queued").write_text(option(script, "job-name"))
    subprocess.Popen(
        [sys.executable, sys.argv[0], "work", number, *arguments[:-1]],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"Submitted batch job {number}")


def work(number: str, arguments: list[str]) -> None:
    """Run every task of the array, one after the other, after the job that it depends on."""
    for before in re.findall(r"--dependency=afterany:(\d+)", " ".join(arguments)):
        while (STATE / f"{before}.queued").exists():
            pass
    script = (STATE / f"{number}.slurm").read_text()
    exported = dict(pair.split("=") for pair in re.findall(r"RUN_OFFSET=\d+", " ".join(arguments)))
    last = int(re.split(r"[-%]", option(script, "array"))[1])
    for task in range(last + 1):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": number, "SLURM_NODELIST": "localhost"}
        log = option(script, "output").replace("%A", number).replace("%a", str(task))
        with Path(log).open("wb") as output:
            code = subprocess.call(
                ["bash", str(STATE / f"{number}.slurm")],
                env=os.environ | exported | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        with (STATE / "accounting").open("a") as states:
            states.write(
                f"{number}_{task}|{'COMPLETED' if code == 0 else 'OUT_OF_MEMORY' if code > 128 else 'FAILED'}\n"
            )
    (STATE / f"{number}.queued").unlink()


def squeue(arguments: list[str]) -> None:
    if (STATE / "silent").exists():
        (STATE / "silent").unlink()
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
    name = next(argument.removeprefix("--name=") for argument in arguments if argument.startswith("--name="))
    for path in sorted(STATE.glob("*.queued")):
        if path.read_text() == name:
            print(path.stem)


def main() -> None:
    command, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if command == "sbatch" and arguments[0] == "work":
        work(arguments[1], arguments[2:])
    elif command == "sbatch":
        sbatch(arguments)
    elif command == "squeue":
        squeue(arguments)
    elif command == "sacct":
        jobs = arguments[arguments.index("-j") + 1].split(",")
        accounting = (STATE / "accounting").read_text().splitlines()
        print("\n".join(line for line in accounting if line.split("_")[0] in jobs))
    elif command == "scontrol":
        print(arguments[-1])
    elif command == "srun":
        os.execvp(arguments[3], arguments[3:])  # noqa: S606 - after -l -n 1


if __name__ == "__main__":
    main()
