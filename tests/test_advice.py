import numpy as np
import pytest
from made_up import answer, make_study, second_network
from scipy.special import expit

from cellkit.measuring import advice
from cellkit.measuring.advice import advise, check_animal, kappas_of
from cellkit.review import audit_queue, draw_audit


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path / "study", n=1500)
    draw_audit(study, 400)
    answer(study, audit_queue(study))
    return study


def rounds(study, monkeypatch, gains, *, labels=(100, 200, 400, 800, 1600)):
    """Let a study have networks that were taught so many labels and are so much better than its calls."""
    second_network(monkeypatch, study)
    cards = [
        {"name": f"net-{k}", "sha256": "0" * 64, "made_at": f"2030-{k}", "trained_on": {"n": n, "ids": []}}
        for k, n in enumerate(labels[: len(gains)])
    ]
    monkeypatch.setattr(type(study), "cards", lambda study: cards)
    better = {card["name"]: gain for card, gain in zip(cards, gains, strict=True)}

    def call_places(study, network, places):
        known = places[["image", "z", "y", "x"]].merge(study.candidates(), on=["image", "z", "y", "x"])
        return expit(known["score"] + better[network.card.name] * np.where(known["cell"], 1, -1))

    from cellkit.measuring import audits

    monkeypatch.setattr(audits.embedding_store, "call_places", call_places)
    return [card["name"] for card in cards]


def test_before_the_second_network_the_advice_says_what_it_cannot_know(study):
    found = advise(study)
    assert not found.stop
    assert found.sentence.startswith("Go on labelling to train")
    assert found.sentence.endswith("(A forecast needs 4 networks taught different numbers of labels; got 0.)")
    assert found.numbers["count_half_width"] > 0


def test_while_networks_still_change_much_labelling_goes_on(study, monkeypatch):
    few = (20, 30, 45, 70, 100)
    names = rounds(study, monkeypatch, [-1.5, -0.8, -0.2, 0.4, 1.0], labels=few)
    found = advise(study, half_width=0.5)
    assert not found.stop and found.sentence.startswith("Go on labelling to train: ")
    assert 0.3 < found.numbers["kappa"] < 0.99
    assert "50 more labels are expected to bring " in found.sentence
    assert len(kappas_of(study, names)) == 3


def test_once_networks_agree_and_the_count_is_known_labelling_stops(study, monkeypatch):
    rounds(study, monkeypatch, [2.0, 2.0, 2.0, 2.0])
    wide = advise(study, half_width=0.01)
    assert not wide.stop
    assert wide.sentence.startswith("Label no more to train, but about ")
    found = advise(study, half_width=0.5)
    assert found.stop and found.sentence.startswith(
        "Stop labelling: the last two networks agree with kappa 1.0"
    )
    assert found.numbers["labels"] == 800


def test_without_an_audit_there_is_no_advice(tmp_path):
    message = r"^Measuring needs an audit; this study has none of the name 'audit'\. Draw it .* answer it\.$"
    with pytest.raises(ValueError, match=message):
        advise(make_study(tmp_path / "study"))


def embedded(study, monkeypatch, *, shift):
    """Let one network of the study see candidates; those of animal-3 are shifted."""
    trained = [{"animal": f"animal-{k}", "side": "train", "answer": "cell", "labels": 9} for k in (1, 2)]
    card = {"name": "net-a", "sha256": None, "made_at": "2030", "trained_on": {"counts": trained}}
    monkeypatch.setattr(type(study), "cards", lambda study: [card])
    monkeypatch.setattr(advice, "find_network", lambda study, name: None)

    def embeddings_at(study, network, places):
        rng = np.random.default_rng(len(places))
        far = shift * (places["image"].iloc[0] == "animal-3")
        return rng.normal(size=(len(places), 6)) + far

    monkeypatch.setattr(advice.embedding_store, "embeddings_at", embeddings_at)
    monkeypatch.setattr(
        advice.embedding_store, "call_places", lambda study, network, places: places["p"].to_numpy()
    )


def test_an_animal_like_those_that_trained_needs_a_small_audit_and_another_a_large_one(study, monkeypatch):
    embedded(study, monkeypatch, shift=0.0)
    alike = check_animal(study, "animal-3")
    assert not alike.unlike
    assert set(alike.table["measure"]) == {"score", "p", "brightness", "embedding"}
    embedded(study, monkeypatch, shift=3.0)
    other = check_animal(study, "animal-3")
    assert other.unlike and other.places > alike.places
    assert "embedding" in other.sentence and str(other.places) in other.sentence


def test_brightness_is_measured_at_the_candidates(study, monkeypatch):
    embedded(study, monkeypatch, shift=0.0)
    path = study.folder / "animal-3.npy"
    pixels = np.load(path)
    z, y, x = study.candidates("animal-3")[["z", "y", "x"]].round().astype(int).to_numpy().T
    pixels[z, y, x] += 60
    np.save(path, pixels)
    table = check_animal(type(study)(study.folder, study.settings), "animal-3").table.set_index("measure")
    assert table.loc["brightness", "unlike"] and not table.loc["score", "unlike"]


def test_an_animal_that_trained_is_not_new(study, monkeypatch):
    message = (
        r"^A new animal is compared with those that trained; no animal of this study trained net-a\. "
        r"Retrain, or audit the new one\.$"
    )
    with pytest.raises(ValueError, match=message):
        check_animal(study, "animal-3")
    embedded(study, monkeypatch, shift=0.0)
    message = (
        r"^A new animal never trained; 'animal-1' is of animal-1, which trained net-a\. "
        r"Name an image of another\.$"
    )
    with pytest.raises(ValueError, match=message):
        check_animal(study, "animal-1")
