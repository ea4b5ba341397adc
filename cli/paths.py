"""What a command line's PATH… stands for."""

from pathlib import Path

from engine.errors import UsageFault


def flow_files(paths: list[Path], *, below: bool = False) -> list[Path]:
    """Return the flow files of files and pack folders; raises UsageFault where there is none."""
    from engine.load import find_flows

    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise UsageFault(f"{missing}: no such file or folder")
    files = find_flows(paths, below=below)
    if not files:
        raise UsageFault(f"{', '.join(map(str, paths))}: no flow in there (a YAML file with a line 'flow: name')")
    return files
