"""Windows of every shape, as the tests of all stateful operators run them."""

from typing import Any

EVENT: dict[str, Any] = {"by": "event", "lateness": "5s", "idle": "20s"}
MANY: dict[str, Any] = {
    "count": "count",
    "values": {"count": "n"},
    "mean": {"mean": "n"},
    "range": {"range": "n"},
    "spread": {"stddev": "n"},
    "variance": {"variance_population": "n"},
    "middle": {"median": "n"},
    "high": {"percentile": "n", "at": 90},
    "devices": {"distinct": "device"},
    "mode": {"mode": "device"},
    "often": {"top": "device", "most": 2},
    "first": {"first": "v"},
    "last": {"last": "v"},
    "delta": {"delta": "n"},
    "rate": "rate",
    "load": {"rate": "n"},
    "histogram": {"histogram": "n", "edges": [1, 2]},
}
WINDOWS: dict[str, dict[str, Any]] = {
    "sliding window": {"every": "4s", "length": "10s", "compute": MANY},
    "sliding window by event time": {"every": "5s", "length": "15s", **EVENT, "compute": MANY},
    "early window": {"every": "10s", "early": "3s", "compute": MANY},
    "revised window": {"every": "10s", **EVENT, "on_late": "revise", "revise_for": "1m", "compute": MANY},
    "revised sliding window": {
        "every": "5s", "length": "15s", **EVENT, "early": "2s", "on_late": "revise", "revise_for": "30s",
    },
    "session": {"gap": "3s", "compute": MANY},
    "session by event time": {"gap": "4s", **EVENT, "compute": MANY},
    "longest session by event time": {"gap": "4s", "longest": "6s", "early": "2s", **EVENT},
    "count window": {"count": 3, "compute": MANY},
    "overlapping count window": {"count": 5, "step": 2, "longest": "20s", "early": "4s"},
    "count window by event time": {"count": 3, "step": 2, **EVENT, "compute": MANY},
    "state window by event time": {"state": "result", "longest": "15s", **EVENT, "compute": MANY},
    "window from opening to closing": {"opens": "opens", "closes": "n == 3", "early": "5s"},
    "window from opening to opening": {"opens": "opens", **EVENT, "compute": MANY},
}  # fmt: skip
