"""When the gateway looks for garbage in cycles: it has a hundred objects for each client, and stands still for it."""

import gc

YOUNG, MIDDLE, OLD = 5_000, 10, 100


def look_seldom() -> None:
    """Leave out for ever what is there now; look through the rest less often. Call it when everything has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
