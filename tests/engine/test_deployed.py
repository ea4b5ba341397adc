"""What is deployed: the text as it was, read whole or not at all, and the place where it runs."""

from pathlib import Path

import pytest

from engine.deployed import load_deployed, read_record, record_of, record_path, surroundings, write_record
from engine.errors import FlowInvalid, UsageFault
from engine.load import load
from engine.settings import Settings, read_environment

FLOW = """\
flow: line
settings: {limit: {default: 3}}
tables: {car: {id: serial}}
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  some: {from: in, where: n < settings.limit}
  cars: {from: some, number: {as: id, table: car}}
sinks:
  out: {from: cars, log: {message: it came}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_environment({"MILLSTREAM_DATA": str(tmp_path / "data")})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "line.yaml"
    path.write_text(FLOW)
    return path


def deploy(settings: Settings, file: Path, **overrides: str) -> None:
    flow = load(file, surroundings(settings, overrides)).raise_findings()
    write_record(settings, flow.name, record_of(flow, overrides, {"car": 41}))


def test_nothing_is_deployed_at_first(settings: Settings) -> None:
    assert read_record(settings, "line") is None
    with pytest.raises(UsageFault, match=r"^a flow that is deployed; 'line' is not"):
        load_deployed(settings, "line")


def test_it_comes_back_with_its_overrides_and_serials(settings: Settings, file: Path) -> None:
    deploy(settings, file, limit="7")
    flow, record = load_deployed(settings, "line")
    assert flow.settings["limit"] == 7
    assert record.highest == {"car": 41}
    assert flow.path == file
    assert len(record.version) == 12


def test_it_comes_back_as_it_was_whatever_becomes_of_the_file(settings: Settings, file: Path) -> None:
    deploy(settings, file)
    version = load_deployed(settings, "line")[1].version
    file.write_text(FLOW.replace("n <", "n >"))
    flow, record = load_deployed(settings, "line")
    assert str(flow.nodes["some"].component) != str(load(file).nodes["some"].component)
    assert record.version == version
    file.unlink()
    assert load_deployed(settings, "line")[0].name == "line"


def test_another_text_is_another_version(settings: Settings, file: Path) -> None:
    deploy(settings, file)
    version = load_deployed(settings, "line")[1].version
    file.write_text(FLOW + "# changed\n")
    deploy(settings, file)
    assert load_deployed(settings, "line")[1].version != version


def test_a_flow_that_is_not_valid_any_more_is_told(settings: Settings, file: Path) -> None:
    deploy(settings, file, limit="7")
    text = record_path(settings, "line").read_text().replace("http: {post", "htp: {post")
    record_path(settings, "line").write_text(text)
    with pytest.raises(FlowInvalid, match="htp"):
        load_deployed(settings, "line")


def test_what_runs_is_not_stopped_by_a_check_of_types_that_is_new(settings: Settings, file: Path) -> None:
    flow = load(file, surroundings(settings)).raise_findings()
    record = record_of(flow, {}, {})
    record.text = FLOW.replace("where: n <", "where: in_all <").replace(
        "some: {from: in,", "typed: {from: in, validate: {n: int}}\n  some: {from: typed,"
    )
    file.write_text(record.text)
    assert "in_all" in str(load(file, surroundings(settings)).document.findings[0])
    write_record(settings, flow.name, record)
    assert "typed" in load_deployed(settings, "line")[0].nodes


def test_no_part_of_a_record_stays_behind(settings: Settings, file: Path) -> None:
    deploy(settings, file)
    deploy(settings, file)
    assert [path.name for path in settings.flow_folder("line").iterdir()] == ["deployed.json"]
