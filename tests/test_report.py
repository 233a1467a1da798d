import json
import re

import pandas as pd
import pytest
from made_up import answer, make_study, second_network

from cellkit.report import write_report
from cellkit.review import audit_queue, draw_audit


def called_by_two(folder, monkeypatch, **settings):
    """Make an answered study, and a network "net-b" beside the "net-a" that called it."""
    study = make_study(folder, seed=2, **settings)
    intensities = type(study).intensities
    second_network(monkeypatch, study)
    monkeypatch.setattr(type(study), "intensities", intensities)
    draw_audit(study, 300)
    answer(study, audit_queue(study))
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield called_by_two(tmp_path_factory.mktemp("reported") / "study", monkeypatch)


@pytest.fixture(scope="module")
def page(study):
    return write_report(study, ["net-a", "net-b"])


def test_the_report_is_one_page_that_asks_nothing_of_any_server(study, page):
    assert page == study.folder / "rounds" / "1" / "report.html"
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 6
    bare = re.sub(r"base64,[^\"]*", "", text)
    assert set(re.findall(r"(?:src|href)=\"([a-z/:]*)", bare)) == {"data:image/png"}
    assert not re.search(r"http|url\(|@import|<link|<script", bare)
    assert "net-b − net-a" in text
    assert "color-scheme: light dark" in text


def test_the_numbers_are_beside_the_page_as_json(study, page):
    said = json.loads((page.parent / "assessment.json").read_text())
    assert [network["name"] for network in said["networks"]] == ["net-a", "net-b"]
    assert said["networks"][0]["f1"].keys() == {"value", "low", "high"}
    assert said["verdict"].startswith("net-b is better than net-a by ")
    assert [row["animal"] for row in said["counts"]] == ["animal-1", "animal-2", "animal-3", "all"]
    basis = said["rests_on"]
    assert basis["labels_by_origin"] == {"audit": 300}
    assert set(basis["images"]) == set(study.names)
    assert basis["versions"]["cellkit"]


def test_the_methods_table_and_the_counts_lie_beside_the_page(study, page):
    methods = pd.read_csv(page.parent / "methods.csv", dtype=str, keep_default_na=False)
    assert list(methods.columns) == ["section", "item", "value"]
    said = methods.set_index(["section", "item"])["value"]
    assert said["data", "cell diameter"] == "15 µm"
    assert said["data", "image animal-3"].startswith(
        "animal-3, role judge, signal; 24 x 120 x 120 voxels of "
    )
    assert said["labels", "answers"].split(", ")[2] == "0 unsure"
    assert said["labels", "agreement"].startswith("Nothing was answered twice yet")
    assert re.fullmatch(
        r"0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\); \d+ answers over animals that judge",
        said["network net-b", "F1"],
    )
    assert {"average precision", "Brier"} <= set(methods["item"])
    assert said["audit", "draw"].startswith("300 places in 1 draws, the first at 20")
    assert said["result", "verdict"].startswith("net-b is better than net-a by ")
    counted = pd.read_csv(page.parent / "counts.csv")
    assert counted["animal"].tolist() == ["animal-1", "animal-2", "animal-3", "all"]
    assert f"{counted['corrected'].iloc[-1]:,} (" in said["count (95 % interval)", "all"]
    text = page.read_text()
    assert "For the methods section" in text and said["audit", "hash"] in text


def test_the_same_study_gives_the_same_page(study, page):
    before = page.read_bytes()
    assert write_report(study, ["net-a", "net-b"]).read_bytes() == before


def test_one_network_alone_is_reported_too_and_elsewhere(study, tmp_path):
    page = write_report(study, folder=tmp_path / "elsewhere")
    assert page.parent == tmp_path / "elsewhere"
    said = json.loads((page.parent / "assessment.json").read_text())
    assert re.fullmatch(
        r"net-a has an F1 of 0\.\d+ \(0\.\d+ to 0\.\d+\) over animals that judge\.", said["verdict"]
    )


def test_names_are_escaped(tmp_path, monkeypatch):
    animals, classes = (("a & b", "train"),), ("<script>cell", "not & cell")
    study = called_by_two(tmp_path / "study", monkeypatch, animals=animals, classes=classes)
    text = write_report(study).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;cell" in text
    assert "a &amp; b" in text


def test_a_study_without_an_audit_writes_nothing(tmp_path):
    study = make_study(tmp_path / "study")
    message = (
        r"^Measuring needs an audit; this study has none of the name 'audit'\. Draw it .*, then answer it\.$"
    )
    with pytest.raises(ValueError, match=message):
        write_report(study)
    assert not (study.folder / "rounds").exists()
