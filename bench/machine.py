"""Name the machine that was measured on: its hardware, and the versions of what took part."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.process import binary

NODE_RED = Path(__file__).parent / "rivals" / "node_red" / "node_modules"
GIB = 1 << 30


def machine() -> dict[str, str]:
    """Return what → which."""
    return {
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Memory": f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        "System": f"{_system()}, Linux {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": f"{platform.python_version()}, Bytewax {version('bytewax')}",
        "Mosquitto": _said("mosquitto", "-h").removeprefix("mosquitto version ").split(" (")[0],
        "MariaDB": _said("mariadbd", "--version").partition("Ver ")[2].split(" for ")[0],
        "Node.js": ", ".join(filter(None, (_said("node", "--version"), _node_of_node_red()))),
        "Node-RED": _package("node-red"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _said(program: str, argument: str) -> str:
    """Return the first line that a program says of itself."""
    try:
        done = subprocess.run([binary(program), argument], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "not there"
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "does not say")


def _package(name: str) -> str:
    try:
        return str(json.loads((NODE_RED / name / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return "not there"


def _node_of_node_red() -> str:
    bundled = [folder.name for folder in NODE_RED.glob("node-linux-*")]
    return f"v{_package(bundled[0])} for Node-RED" if bundled else ""
