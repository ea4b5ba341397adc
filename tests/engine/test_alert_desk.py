"""Ids of alerts, which lead to their keys; and the keys that stand for all of a shard."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.alert_desk import EVERY_KEY, alert_id, alert_key, desk
from engine.keyed import SHARDS


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(), st.text())
def test_an_id_leads_to_its_key_and_fits_into_a_path(key: str, node: str, episode: str) -> None:
    made = alert_id("n", key, episode)
    assert alert_key(made) == key
    assert made.isascii()
    assert not set(made) & set(" /?#%&+\\\"'")


@given(st.text())
def test_any_text_is_an_id_or_none(text: str) -> None:
    found = alert_key(text)
    assert found is None or isinstance(found, str)


@pytest.mark.parametrize("text", ["", "a", "0123456789abcdef", "0123456789abcdef-~a", "0123456789abcdef-~gICA", "0123456789ABCDEF-a", "0123456789abcdef-a/b"])  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert alert_key(text) is None


def test_there_is_one_key_for_all_of_each_shard() -> None:
    assert [crc32(key.encode()) % len(SHARDS) for key in EVERY_KEY] == list(range(len(SHARDS)))


def test_what_is_served_elsewhere_has_names_of_its_own() -> None:
    one, other = (desk("f", "alert", path, "viewer", "employee") for path in ("", "/api/line-1/alerts"))
    assert (list(one["sources"]), list(one["queries"])) == (["alerts_by_hand"], ["alerts"])
    assert not set(one["sources"]) & set(other["sources"])
    assert other["queries"]["alerts_api_line_1_alerts"]["get"] == "/api/line-1/alerts"
