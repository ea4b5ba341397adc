"""The environment: defaults, what is refused and how, and the secrets that a data folder keeps."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import EnvironmentFault
from engine.settings import kept_secret, lock, read_environment
from tests.process import ROOT


def test_defaults() -> None:
    settings = read_environment({})
    assert (settings.host, settings.port, settings.broker_port) == ("127.0.0.1", 8000, 1883)
    assert settings.data == Path("data").resolve()
    assert settings.database == f"sqlite+aiosqlite:///{settings.data}/millstream.db"
    assert (settings.mqtt_url, settings.secret, settings.admin_password) == (None, None, None)


def test_an_empty_variable_is_none() -> None:
    names = ("HOST", "PORT", "DATA", "DATABASE", "MQTT", "BROKER_PORT", "SECRET", "ADMIN_PASSWORD")
    assert read_environment({f"MILLSTREAM_{name}": "" for name in names}) == read_environment({})


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "80.0", "\u0668\u0660", " 80"])
@pytest.mark.parametrize("name", ["MILLSTREAM_PORT", "MILLSTREAM_BROKER_PORT"])
def test_a_port_that_is_none(name: str, port: str) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        read_environment({name: port})
    assert str(caught.value) == f"{name}: a port from 1 to 65535; got '{port}'"


def test_a_short_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(EnvironmentFault, match=r"^MILLSTREAM_SECRET: at least 32 characters; got 6$"):
        read_environment({"MILLSTREAM_SECRET": "hidden"})


def test_secrets_do_not_show() -> None:
    settings = read_environment({"MILLSTREAM_SECRET": "hidden" * 6, "MILLSTREAM_ADMIN_PASSWORD": "hidden too"})
    assert "hidden" not in repr(settings)


def test_an_address_that_is_none_names_its_variable_and_not_its_password(tmp_path: Path) -> None:
    settings = read_environment({"MILLSTREAM_DATA": str(tmp_path), "MILLSTREAM_MQTT": "mqtts://user:hidden@"})
    with pytest.raises(EnvironmentFault, match=r"^MILLSTREAM_MQTT: ") as caught:
        settings.mqtt()
    assert "hidden" not in str(caught.value)


def test_client_ids_stay_the_same_in_a_data_folder_and_differ_between_two(tmp_path: Path) -> None:
    one, other = (read_environment({"MILLSTREAM_DATA": str(tmp_path / name)}) for name in ("one", "other"))
    assert one.mqtt() == one.mqtt()
    assert one.mqtt().client_id != other.mqtt().client_id


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_only_this_machine_can_reach_it(host: str) -> None:
    assert read_environment({"MILLSTREAM_HOST": host}).local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example"])  # noqa: S104 - only read
def test_others_can_reach_it(host: str) -> None:
    assert not read_environment({"MILLSTREAM_HOST": host}).local


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    made = kept_secret(path)
    assert len(made) == 64
    assert kept_secret(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_a_secret_that_a_power_cut_emptied_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with pytest.raises(EnvironmentFault, match="the file is empty"):
        kept_secret(tmp_path / "secret")


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path) -> None:
    code = "import sys, pathlib; from engine.settings import kept_secret; print(kept_secret(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path / "secret")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(6)]
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1


def test_the_data_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    settings = read_environment({"MILLSTREAM_DATA": str(tmp_path / "a" / "b")})
    settings.prepare()
    settings.prepare()
    assert stat.S_IMODE(settings.data.stat().st_mode) == 0o700


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"^MILLSTREAM_DATA: a folder to write to; .*/file: File exists$"):
        read_environment({"MILLSTREAM_DATA": str(tmp_path / "file")}).prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFault, match="Permission denied"):
        read_environment({"MILLSTREAM_DATA": str(tmp_path)}).prepare()


def test_a_lock_is_for_one_and_ends_with_it(tmp_path: Path) -> None:
    held = lock(tmp_path / "lock", "taken")
    with pytest.raises(EnvironmentFault, match=r"^taken$"):
        lock(tmp_path / "lock", "taken")
    os.close(held)
    os.close(lock(tmp_path / "lock", "taken"))


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    code = "import sys, pathlib; from engine.settings import lock; lock(pathlib.Path(sys.argv[1]), ''); print('held')"
    command = [sys.executable, "-c", f"{code}; sys.stdout.flush(); sys.stdin.read()", str(tmp_path / "lock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        begin = time.monotonic()
        with pytest.raises(EnvironmentFault):
            lock(tmp_path / "lock", "taken", 0.3)
        assert 0.3 <= time.monotonic() - begin < 5
        other.kill()
        os.close(lock(tmp_path / "lock", "taken", 30))
