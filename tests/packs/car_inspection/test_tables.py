"""A fresh installation: its tables, its accounts, and a result that comes before any car."""

import pytest

from tests.packs.car_inspection.line import Line
from tests.packs.car_inspection.live import Socket
from tests.packs.car_inspection.pictures import base64_of, jpeg

COLUMNS = {
    "car": ["id", "created_at"],
    "sensor_result": ["id", "car_id", "device", "result", "created_at"],
    "camera_result": ["id", "car_id", "result", "created_at"],
    "defect_image": ["id", "camera_result_id", "car_id", "image_path"],
}
REFERENCES = {
    ("sensor_result", "car_id", "car", "id"),
    ("camera_result", "car_id", "car", "id"),
    ("defect_image", "camera_result_id", "camera_result", "id"),
    ("defect_image", "car_id", "car", "id"),
}
TEXTS = {
    ("sensor_result", "device"): "VARCHAR(50)",
    ("sensor_result", "result"): "VARCHAR(10)",
    ("camera_result", "result"): "VARCHAR(10)",
    ("defect_image", "image_path"): "VARCHAR(255)",
}


@pytest.fixture(scope="module", autouse=True)
def first_result(line: Line) -> None:
    """The first thing that ever comes is a station's verdict; the camera's follows."""
    with Socket(line) as client:
        assert client.next("stats")["cars"] == 0
        line.sensor("led", "ok")
        assert client.next("car_added") == {"car_id": 1}
        client.next("stats_update", lambda stats: (stats["cars"], stats["total"]) == (1, 1))
    images = [base64_of(jpeg(1)), base64_of(jpeg(2))]
    line.publish("camera01/result", {"result": "DEFECT", "detection": {"result_image": images}})
    line.until(lambda: line.count("defect_image") == 2, "the pictures' rows are there")


def columns(line: Line, table: str) -> dict[str, str]:
    """Return name and type (in capitals) of a table's columns in their order, without hidden ones."""
    if line.backend.mariadb:
        found = line.query(
            "SELECT column_name, column_type FROM information_schema.columns"
            " WHERE table_schema = 'smart_factory' AND table_name = ? ORDER BY ordinal_position",
            table,
        )
    else:
        found = line.query("SELECT name, type FROM pragma_table_info(?) ORDER BY cid", table)
    return {str(name): str(kind).upper() for name, kind in found}


def test_a_result_before_any_car_opens_one_and_the_log_says_so(line: Line) -> None:
    assert line.of_car(1) == [("LED", "OK")]
    assert line.query("SELECT id FROM car") == [(1,)]
    line.until(lambda: "before any start trigger" in line.process.output(), "the log says so")
    line.new_car()
    assert line.process.output().count("before any start trigger") == 1


@pytest.mark.parametrize("table", list(COLUMNS))
def test_the_tables_have_exactly_the_columns_of_the_page(line: Line, table: str) -> None:
    found = columns(line, table)
    assert [name for name in found if name != "_event"] == COLUMNS[table]
    assert list(found)[-1] in ("_event", COLUMNS[table][-1])


def test_texts_have_the_lengths_of_the_page(line: Line) -> None:
    found = {(table, column): columns(line, table)[column] for table, column in TEXTS}
    assert found == TEXTS


def test_references_are_foreign_keys(line: Line) -> None:
    if line.backend.mariadb:
        found = line.query(
            "SELECT table_name, column_name, referenced_table_name, referenced_column_name FROM"
            " information_schema.key_column_usage"
            " WHERE table_schema = 'smart_factory' AND referenced_table_name IS NOT NULL"
        )
    else:
        found = [
            (table, *row)
            for table in COLUMNS
            for row in line.query('SELECT "from", "table", "to" FROM pragma_foreign_key_list(?)', table)
        ]
    assert {row for row in found if row[0] in COLUMNS} == REFERENCES


def test_the_primary_keys_count_by_themselves(line: Line) -> None:
    if line.backend.mariadb:
        found = line.query(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'smart_factory'"
            " AND column_name = 'id' AND column_key = 'PRI' AND extra = 'auto_increment'"
        )
        assert {table for (table,) in found} >= set(COLUMNS)
    else:
        for table in COLUMNS:
            [(sql,)] = line.query("SELECT sql FROM sqlite_master WHERE name = ?", table)
            assert "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" in sql


def test_the_rows_refer_to_each_other(line: Line) -> None:
    joined = line.query(
        "SELECT c.id, r.result, i.image_path FROM defect_image i JOIN camera_result r ON r.id = i.camera_result_id"
        " JOIN car c ON c.id = r.car_id AND c.id = i.car_id ORDER BY i.id"
    )
    assert [(car, result) for car, result, _ in joined] == [(1, "DEFECT")] * 2
    assert all(path.startswith("/media/") and len(path) <= 255 for _, _, path in joined)


def test_employees_are_the_accounts_with_hashed_passwords(line: Line) -> None:
    line.account("anna")
    found = line.query("SELECT username, role, password_hash FROM employees ORDER BY id")
    assert [(name, role) for name, role, _ in found] == [("admin", "admin"), ("anna", "employee")]
    assert all(str(hashed).startswith("$argon2id$") for _, _, hashed in found)
    assert len({hashed for _, _, hashed in found}) == 2
    shown = str(line.query("SELECT * FROM accounts") + line.query("SELECT * FROM employees"))
    assert "password of anna" not in shown
    assert line.process.password not in shown
