"""Everything that a row of the matrix needs: broker and database, Millstream with the flow, the load, the watch."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tests.faults.matrix.load import Final, Spec, Status
from tests.faults.matrix.watch import Table, Watch
from tests.process import LOCALHOST, ROOT, wait_until
from tests.services import MariaDB, Millstream, Mosquitto

FLOW = Path(__file__).parent / "matrix.yaml"
PATIENCE = 90.0
DRAINED = 60.0


class Services:
    """The broker and the database, which the rows share."""

    def __init__(self, broker: Mosquitto, database: MariaDB) -> None:
        self.broker, self.database = broker, database


class Generator:
    """The load's process, as this side sees it."""

    def __init__(self, spec: Spec, log: Path) -> None:
        self.status = Status()
        self._final: Final | None = None
        command = [sys.executable, "-m", "tests.faults.matrix.load", msgspec.json.encode(spec).decode()]
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
        self._log, self._reader = log, threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"status"'):
                self._final = msgspec.json.decode(line, type=Final)
            else:
                self.status = msgspec.json.decode(line, type=Status)

    def stop(self) -> None:
        """Make no more events, and wait until all are acknowledged."""
        self._tell(b"stop\n")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.status.stopped or self._process.poll() is not None, "all is acknowledged", DRAINED)

    def end(self) -> Final:
        """End it and return what it has to tell."""
        self._tell(b"end\n")
        self._process.wait(30)
        self._reader.join(10)
        assert self._final is not None, f"the load failed:\n{self._log.read_text()[-3000:]}"
        return self._final

    def _tell(self, command: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(command)
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it however it is."""
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Rig:
    """One row's Millstream under load. In it, `recovers` measures from a fault to what was sent after it."""

    def __init__(
        self, folder: Path, services: Services, spec: Spec, data: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.services, self.spec = folder, services, spec
        self.flow = Path(shutil.copy(FLOW, folder))
        url = services.database.database("matrix")
        self.table, self.watch = Table(url), Watch(url)
        ours = {"MILLSTREAM_MQTT": services.broker.url, "MILLSTREAM_DATABASE": url, "MATRIX_EVERY": str(spec.every)}
        self.millstream = Millstream(folder, self.flow, env={**ours, **(env or {})})
        if data is not None:
            self.millstream.data = data
        spec.mqtt, spec.http = services.broker.url, f"{self.millstream.url}/matrix"
        spec.board = f"ws://{LOCALHOST}:{self.millstream.port}/ws/matrix"
        self.recoveries: list[float] = []
        self.load: Generator
        self.began = 0.0

    def __enter__(self) -> Rig:
        try:
            self.millstream.start()
            self.load = Generator(self.spec, self.folder / "load.log")
            self.watch.start()
            self.until(lambda: self.watch.fresh(0.0), "events of every source are stored")
            self.began = time.monotonic()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "load"):
            self.load.kill()
        if self.watch.is_alive():
            self.watch.stop()
        self.table.close()
        self.millstream.power_cut()

    def until(self, condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
        """Wait with a bound; what Millstream said is shown when it does not come."""
        try:
            wait_until(condition, what, within)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; the end of its log:\n{self.millstream.output()[-3000:]}") from None

    def run_for(self, seconds: float) -> None:
        """Let the load go on for a while: the time is what is wanted here."""
        time.sleep(seconds)

    def recovers(self, since: float, what: str, within: float = PATIENCE) -> None:
        """Note the seconds from a moment (Unix time) until events of every source that were sent after it are stored."""
        self.until(lambda: self.watch.fresh(since), f"events sent after {what} are stored", within)
        self.recoveries.append(time.time() - since)

    # --- faults

    def workers(self) -> list[int]:
        """Return the pids of the flow's workers."""
        return self.millstream.worker_pids()

    def kill_worker(self) -> float:
        """Kill it as `kill -9` does; return when."""
        self.until(self.workers, "a worker is there")
        for pid in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return time.time()

    def kill_gateway(self) -> float:
        """Kill the gateway alone, and start it again as a service manager would; return when it was killed."""
        self.millstream.kill()
        when = time.time()
        self.millstream.start()
        return when

    def kill_everything(self) -> float:
        """Kill every process of Millstream at once, and start it again; return when they were killed."""
        when = time.time()
        self.millstream.power_cut()
        self.millstream.start()
        return when

    def command(self, *arguments: str | Path, within: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run `millstream ARGUMENTS` as operations do."""
        return subprocess.run(
            [sys.executable, "-m", "millstream", *map(str, arguments)],
            cwd=ROOT, env=self.millstream.environment(), capture_output=True, text=True, timeout=within,
        )  # fmt: skip

    # --- the end

    def finish(self) -> Final:
        """Stop the load, wait until all that was acknowledged is stored and nothing moves any more, and return it."""
        self.load.stop()
        self._settle()
        self.watch.stop()
        return self.load.end()

    def _settle(self) -> None:
        """Wait until the tables and the dashboards stand still with all that was acknowledged, or for long enough."""
        end, last, still = time.monotonic() + PATIENCE, (-1, -1, -1), 0.0
        while time.monotonic() < end and (still < 1.0 or not self._complete(last[0])) and still < 20.0:
            now = (self._stored(), self.table.number("SELECT MAX(id) FROM closed_window"), self.load.status.ticks)
            still = still + 0.25 if now == last else 0.0
            last = now
            time.sleep(0.25)

    def _stored(self) -> int:
        return self.table.number("SELECT COUNT(*) FROM event")

    def _complete(self, stored: int) -> bool:
        """Tell whether all that was acknowledged is stored, and the dashboards know it."""
        return self.load.status.acknowledged <= stored <= self.load.status.totals
