"""What a command line's PATH… stands for."""

from pathlib import Path

from engine.errors import UsageFault


def flow_files(paths: list[Path], *, below: bool = False) -> list[Path]:
    """Return the flow files of files and pack folders; raises UsageFault where there is none.

    With `below`, the folders in a folder are looked into as well, and pages of Markdown with flows in them count.
    """
    from engine.lint_markdown import find_pages_and_flows
    from engine.load import find_flows

    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise UsageFault(f"{missing}: no such file or folder")
    files = find_pages_and_flows(paths) if below else find_flows(paths)
    if not files:
        raise UsageFault(f"{', '.join(map(str, paths))}: no flow in there (a YAML file with a line 'flow: name')")
    return files
