"""The fixtures themselves: they start, accept, keep what they promise over a restart, and end."""

import subprocess
from pathlib import Path

import psutil
import pymysql
import pytest

from tests.process import Server, accepts, binary, free_port, wait_until
from tests.services import Chromium, MariaDB, Mosquitto, Node


def mqtt(program: str, broker: Mosquitto, *arguments: str) -> str:
    command = [binary(program), "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_free_ports_differ_and_nothing_listens_on_them() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert not any(accepts(port) for port in ports[:5])


def test_waiting_in_vain_names_what_was_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain: the moon is blue"):
        wait_until(lambda: False, "the moon is blue", within=0.05)


def test_a_missing_program_says_how_to_install_it() -> None:
    with pytest.raises(FileNotFoundError, match="make test"):
        binary("no-such-program")


def test_a_server_that_ends_at_once_shows_its_output(tmp_path: Path) -> None:
    class Broken(Server):
        def command(self) -> list[str]:
            return ["sh", "-c", "echo the disk is full; exit 3"]

        def ready(self) -> bool:
            return False

    with pytest.raises(AssertionError, match=r"ended with 3 .*\n.*the disk is full"):
        Broken(tmp_path).start()


def test_mosquitto_keeps_a_session_over_a_restart(mosquitto: Mosquitto) -> None:
    session = ["-i", "keeps", "-c", "-t", "kept/#"]
    mqtt("mosquitto_sub", mosquitto, *session, "-E")
    mqtt("mosquitto_pub", mosquitto, "-t", "kept/x", "-m", "still here")
    assert mosquitto.stop() == 0
    assert not accepts(mosquitto.port)
    mosquitto.start()
    assert mqtt("mosquitto_sub", mosquitto, *session, "-C", "1", "-W", "10") == "still here\n"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_killed_server_is_there_again_for_the_next_test(mosquitto: Mosquitto, turn: int) -> None:
    assert accepts(mosquitto.port), turn
    mosquitto.kill()
    assert not mosquitto.running()


def test_mariadb_keeps_committed_rows_over_kill(mariadb: MariaDB) -> None:
    assert mariadb.database("kept") == mariadb.url.replace("smart_factory", "kept")
    mariadb.execute("CREATE TABLE kept.x (y INT)", "INSERT INTO kept.x VALUES (7)")
    mariadb.kill()
    with pytest.raises(pymysql.err.OperationalError):
        mariadb.execute("SELECT 1")
    mariadb.start()
    assert mariadb.execute("SELECT y FROM kept.x") == [(7,)]


def test_a_database_is_fresh_each_time(mariadb: MariaDB) -> None:
    for _ in range(2):
        mariadb.database("fresh")
        mariadb.execute("CREATE TABLE fresh.x (y INT)")
    assert mariadb.execute("SELECT COUNT(*) FROM fresh.x") == [(0,)]


def test_servers_are_reached_from_this_machine_only(mosquitto: Mosquitto, mariadb: MariaDB) -> None:
    for server in (mosquitto, mariadb):
        listening = [c for c in psutil.Process(server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_chromium_renders_a_page(chromium: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p id=x></p><script>x.textContent = 6 * 7</script>")
    command = chromium.command(tmp_path / "profile", "--dump-dom", page.as_uri())
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert '<p id="x">42</p>' in done.stdout, done.stderr


def test_node_drives_chromium(node: Node, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>before</title><script>document.title = 'after'</script>")
    assert node.run("title.mjs", page.as_uri()) == "after\n"


def test_a_failing_script_shows_its_error(node: Node) -> None:
    with pytest.raises(AssertionError, match=r"title\.mjs ended with 1"):
        node.run("title.mjs", "no address at all")
