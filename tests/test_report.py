import json
import re

import pandas as pd
import pytest
from made_up import answer, make_study, second_network

from cellkit.folder.disk import fingerprint
from cellkit.labels.places import add_micrometres
from cellkit.ledger import read_events
from cellkit.reassess import advise, assess, compare, counts
from cellkit.report import write_report
from cellkit.review import audit_queue, draw_audit


def basis_of_boxes(study):
    return fingerprint(read_events(study.folder / "boxes"))


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
    assert text.count("data:image/png;base64,") == text.count("<figure>") >= 7
    bare = re.sub(r"base64,[^\"]*", "", text)
    assert set(re.findall(r"(?:src|href)=\"([a-z/:]*)", bare)) == {"data:image/png"}
    assert not re.search(r"http|url\(|@import|<link|<script", bare)
    assert "net-b − net-a" in text
    assert "color-scheme: light dark" in text and "@media print" in text


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"base64,[^\"]*", "", page.read_text())))


def test_what_a_reader_looks_for_comes_first(study, page):
    text, found = text_of(page), assess(study, "net-b")
    f1, every = found.interval("F1"), counts(study, "net-b").iloc[-1]
    assert f"F1 of net-b {f1.value:.2f} {f1.low:.2f} to {f1.high:.2f}, animals that judge" in text
    assert (
        f"cells in all {every['corrected']:,} {every['low']:,} to {every['high']:,}, "
        "without those the detector missed"
    ) in text
    assert f"audited places 300 {len(found.places)} of them measure net-b" in text
    assert advise(study).sentence in text
    heads = re.findall(r"<h2>([^<]*)</h2>", page.read_text())
    assert [head.split(":")[0] for head in heads] == [
        "Networks on the audit",
        "What net-b fixed",
        "What net-b broke",
        "Where net-b and the person stand",
        "Each animal",
        "Counts",
        "Surest mistakes",
        "For the methods section",
        "What this rests on",
    ]


def test_what_changed_is_shown_and_counted(study, page):
    test = compare(study, ["net-a", "net-b"]).mcnemar
    text = page.read_text()
    assert f"<h2>What net-b fixed: {test.only_second} places that net-a called wrong</h2>" in text
    assert f"<h2>What net-b broke: {test.only_first} places that net-a called right</h2>" in text
    figures = [part.split("<h2>")[0].count("<figure>") for part in text.split("<h2>What net-b ")[1:]]
    assert figures == [1, int(test.only_first > 0)]


def test_counts_say_how_many_more_labels_and_categories_have_intervals(study, page):
    text, every = text_of(page), counts(study, "net-b").iloc[-1]
    assert "for ± 10 %" in text and f" {every['more']:,.0f} " in text
    missed = assess(study, "net-b").categories.set_index("category").loc["missed cell"]
    said = f"missed cell {missed['answers']} {missed['candidates']} ({missed['low']} to {missed['high']})"
    assert said in text
    assert "By the answers" not in text and "Counted by the answers" not in text, "control: one person"


def test_a_person_asked_twice_and_a_second_person_are_in_the_report(tmp_path, monkeypatch):
    study = called_by_two(tmp_path / "study", monkeypatch)
    assert "asked twice" not in text_of(write_report(study, ["net-a"])), "control"
    trained = add_micrometres(study, study.candidates("animal-1").head(60))
    for origin in ("random", "repeat"):
        answer(study, trained.assign(origin=origin, batch=origin))
    answer(study, audit_queue(study, answered=True), who="you", wrong=0.1)
    text = text_of(write_report(study, ["net-a"]))
    assert "F1 of a person, asked twice 1.00 0." in text and "60 places" in text
    assert "Counted by the answers of each person who answered the audit:" in text
    assert " me 300 " in text and " you 300 " in text


def test_the_numbers_are_beside_the_page_as_json(study, page):
    said = json.loads((page.parent / "assessment.json").read_text())
    assert [network["name"] for network in said["networks"]] == ["net-a", "net-b"]
    assert said["networks"][0]["f1"].keys() == {"value", "low", "high"}
    assert said["verdict"].startswith("net-b is better than net-a by ")
    assert said["advice"] == advise(study).sentence
    assert basis_of_boxes(study) == said["rests_on"]["marked"]
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
