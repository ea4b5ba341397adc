"""Whether models read the docstrings under their fields, as pydantic's `use_attribute_docstrings` does.

Who explains components needs them. Who runs flows does not, and they cost each start 0.2 s of CPU: pydantic looks for
the source of every class by way of all modules, for every frame of the import.
"""

_left_out: list[bool] = []


def leave_out() -> None:
    """Read none in this process; to be called before models are imported."""
    _left_out.append(True)


def wanted() -> bool:
    """Tell whether models are to read them."""
    return not _left_out
