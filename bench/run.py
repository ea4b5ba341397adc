"""Run a part of the bench in a process of its own; `python -m bench.run MODULE PATH [--short]` is that process."""

import ast
import importlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.record import HERE, OUT, Record, read_record, record_path
from bench.result import Section

LONGEST = 1_200.0
SHORT = "short"


def parts(folder: Path = HERE) -> list[str]:
    """Return the names of the modules that have `measure`; they are read, not imported."""
    return [path.stem for path in sorted(folder.glob("*.py")) if _measures(path)]


def _measures(path: Path) -> bool:
    functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    return any(node.name == "measure" and [a.arg for a in node.args.args] == [SHORT] for node in functions)


def run(name: str, short: bool, out: Path = OUT, longest: float = LONGEST, package: str = "bench") -> Record:
    """Measure a part and keep its record, a short one apart; one that fails keeps the section that it had."""
    folder = out / SHORT if short else out
    folder.mkdir(parents=True, exist_ok=True)
    record, began = read_record(folder, name), time.monotonic()
    fresh, log = folder / f"{name}.fresh.json", folder / f"{name}.log"
    command = [sys.executable, "-m", "bench.run", f"{package}.{name}", str(fresh), *(["--short"] if short else [])]
    record.fault = _fault(command, log, longest)
    if not record.fault:
        record.section = msgspec.json.decode(fresh.read_bytes(), type=Section)
        record.at, record.seconds = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", time.monotonic() - began
    fresh.unlink(missing_ok=True)
    record_path(folder, name).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return record


def _fault(command: list[str], log: Path, longest: float) -> str:
    """Run it to its end; return why it failed, or nothing. What it started is in its process group and ends with it."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=HERE.parent, stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(longest)
        except subprocess.TimeoutExpired:
            return f"not done after {longest:,.0f} s"
        finally:
            _end(process)
    if code == 0:
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line.split(":")[0]), lines[-1] if lines else "")
    return f"{said[:300] or 'no word'} (exit code {code}; {log.name} has it all)"


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def main(module: str, path: str, *options: str) -> None:
    """Be the process."""
    section: Section = importlib.import_module(module).measure("--short" in options)
    Path(path).write_bytes(msgspec.json.encode(section))


if __name__ == "__main__":
    main(*sys.argv[1:])
