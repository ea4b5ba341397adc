"""Pictures of defects: checked, stored once by their content, served under /media; a broken one costs itself only."""

import struct
import zlib
from hashlib import sha256
from typing import Any

import pytest

from tests.packs.car_inspection.line import Line
from tests.packs.car_inspection.pictures import base64_of, encoded, jpeg


def report(line: Line, pictures: object, result: str = "DEFECT") -> tuple[dict[str, Any], list[str]]:
    """Let the camera report a car of its own; return the stored row and its pictures' paths in order."""
    car = line.new_car()
    line.publish("camera01/result", {"result": result, "detection": {"result_image": pictures}})
    line.until(lambda: line.count("camera_result", f"car_id = {car}") == 1, "the row is there")
    [row] = line.get("/camera/result", car_id=car)
    return row, paths_of(line, row["id"])


def paths_of(line: Line, result: int) -> list[str]:
    found = line.query("SELECT image_path FROM defect_image WHERE camera_result_id = ? ORDER BY id", result)
    return [str(path) for (path,) in found]


def stored_paths(line: Line, result: int, count: int) -> list[str]:
    line.until(lambda: len(paths_of(line, result)) == count, f"{count} pictures are in the table")
    return paths_of(line, result)


def stored_files(line: Line) -> list[str]:
    return [file.name for file in (line.process.data / "media").rglob("*") if file.is_file()]


def test_pictures_are_stored_and_served_in_their_order(line: Line) -> None:
    pictures = [jpeg(number) for number in (1, 2, 3)]
    row, _ = report(line, [base64_of(picture) for picture in pictures])
    paths = stored_paths(line, row["id"], 3)
    assert paths == [f"/media/{sha256(picture).hexdigest()}.jpg" for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        answer = line.anonymous.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == picture
    cars = line.query("SELECT DISTINCT car_id FROM defect_image WHERE camera_result_id = ?", row["id"])
    assert cars == [(row["car_id"],)]


def test_at_most_five_are_kept_unless_set_otherwise(line: Line) -> None:
    pictures = [jpeg(number) for number in range(20, 28)]
    row, _ = report(line, [base64_of(picture) for picture in pictures])
    paths = stored_paths(line, row["id"], 5)
    assert paths == [f"/media/{sha256(picture).hexdigest()}.jpg" for picture in pictures[:5]]
    files = stored_files(line)
    assert not any(sha256(picture).hexdigest() in name for picture in pictures[5:] for name in files)


def test_the_same_picture_is_stored_once(line: Line) -> None:
    picture = jpeg(40)
    first, _ = report(line, [base64_of(picture), base64_of(picture)])
    second, _ = report(line, [base64_of(picture)])
    assert len({*stored_paths(line, first["id"], 2), *stored_paths(line, second["id"], 1)}) == 1
    assert stored_files(line).count(f"{sha256(picture).hexdigest()}.jpg") == 1


def test_a_picture_may_be_one_text_and_a_data_url(line: Line) -> None:
    picture = jpeg(41)
    row, _ = report(line, "data:image/jpeg;base64," + base64_of(picture))
    assert stored_paths(line, row["id"], 1) == [f"/media/{sha256(picture).hexdigest()}.jpg"]


@pytest.mark.parametrize(("extension", "kind"), [(".png", "image/png"), (".webp", "image/webp"), (".bmp", "image/bmp")])
def test_other_kinds_are_served_as_what_they_are(line: Line, extension: str, kind: str) -> None:
    picture = encoded(50, extension)
    row, _ = report(line, [base64_of(picture)])
    answer = line.anonymous.get(stored_paths(line, row["id"], 1)[0])
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, kind, picture)


def giant_png() -> bytes:
    """Return a small file that says it is 60,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    small = encoded(60, ".png")
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


BROKEN: dict[str, object] = {
    "no base64": "this is no base64!",
    "no picture": base64_of(b"no picture at all"),
    "a page": base64_of(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
    "a JPEG's beginning": base64_of(jpeg(61)[:40]),
    "a PNG's beginning": base64_of(encoded(61, ".png")[:40]),
    "too many pixels": base64_of(giant_png()),
    "nothing": "",
    "null": None,
    "a number": 5,
    "a list": [base64_of(jpeg(61))],
    "an object": {"data": base64_of(jpeg(61))},
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_picture_goes_to_quarantine_and_its_result_is_stored(line: Line, name: str) -> None:
    letters, rows, files = len(line.letters()), line.count("defect_image"), stored_files(line)
    good = jpeg(70)
    row, _ = report(line, [BROKEN[name], base64_of(good)])
    assert row["result"] == "DEFECT"
    assert stored_paths(line, row["id"], 1) == [f"/media/{sha256(good).hexdigest()}.jpg"]
    line.until(lambda: len(line.letters()) == letters + 1, "the dead letter is there")
    letter = line.letters()[-1]
    assert (letter.topic, letter.reason.startswith("picture 0: ")) == ("camera01/result", True)
    assert line.count("defect_image") == rows + 1
    assert len(stored_files(line)) <= len(files) + 1


def test_all_pictures_broken_leaves_the_result(line: Line) -> None:
    letters = len(line.letters())
    row, _ = report(line, ["!", "?", "-"])
    line.until(lambda: len(line.letters()) == letters + 3, "each has its dead letter")
    assert [letter.reason[:9] for letter in line.letters()[-3:]] == ["picture 0", "picture 1", "picture 2"]
    assert paths_of(line, row["id"]) == []


@pytest.mark.parametrize(
    "payload",
    [{}, {"detection": {}}, {"detection": None}, {"detection": {"result_image": []}}, {"detection": {"x": 1}}],
)
def test_a_defect_without_pictures_is_stored(line: Line, payload: dict[str, Any]) -> None:
    car, letters = line.new_car(), len(line.letters())
    line.publish("camera01/result", {"result": "DEFECT", **payload})
    line.until(lambda: line.count("camera_result", f"car_id = {car}") == 1, "the row is there")
    assert len(line.letters()) == letters


@pytest.mark.parametrize(
    "path",
    [
        "/media/", "/media/" + "0" * 64, "/media/" + "0" * 64 + ".jpg", "/media/../secret", "/media/..%2Fsecret",
        "/media/%2e%2e/%2e%2e/etc/passwd", "/media/" + "0" * 64 + ".jpg%00.html", "/media/..\\secret",
        "/media//etc/passwd",
    ],
)  # fmt: skip
def test_nothing_else_is_served_under_media(line: Line, path: str) -> None:
    assert line.anonymous.get(path).status_code == 404
