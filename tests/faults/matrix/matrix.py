"""Which rows there are, in the order of the table, and how one is run."""

from __future__ import annotations

import traceback
from pathlib import Path

from tests.faults.matrix import audience, deploys, disk, rows
from tests.faults.matrix.check import Outcome
from tests.faults.matrix.rig import Services
from tests.faults.matrix.rows import Run
from tests.faults.matrix.scale import Scale

ROWS: dict[str, Run] = {
    "worker": rows.worker_kills,
    "gateway": rows.gateway_kills,
    "everything": rows.power_cuts,
    "database": rows.database_away,
    "broker": rows.broker_away,
    "redeploy": deploys.redeploys,
    "bad-version": deploys.bad_version,
    "disk": disk.disk_full,
    "audience": audience.many_clients,
    "rubbish": rows.rubbish,
}


def run_row(name: str, folder: Path, services: Services, scale: Scale) -> Outcome:
    """Run one row; one that cannot be run to its end fails with the reason."""
    services.broker.start()
    services.database.start()
    try:
        return ROWS[name](folder, services, scale)
    except Exception as fault:  # the other rows are run all the same
        why = str(fault) if isinstance(fault, AssertionError) else traceback.format_exc()
        return Outcome(name, fault=(ROWS[name].__doc__ or name).splitlines()[0], fails=[why])
