"""A study without pixels worth seeing: candidates whose truth and calls are drawn, for tests of numbers."""

import numpy as np
import pandas as pd
from scipy.special import expit

from cellkit.study import Study, create_study

ANIMALS = (("animal-1", "train"), ("animal-2", "train"), ("animal-3", "judge"))
SHAPE, VOXEL_UM = (24, 120, 120), (20.0, 10.0, 10.0)


def make_study(folder, *, animals=ANIMALS, n=600, share=0.25, seed=0, **settings) -> Study:
    """Make a study of `n` candidates an animal, a `share` of them cells, called by "net-a" with p."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for name, role in animals:
        np.save(folder / f"{name}.npy", rng.poisson(20, SHAPE).astype(np.uint8))
        images.append({"name": name, "path": f"{name}.npy", "animal": name, "role": role, "axes": "zyx"})
    for image in images:
        image |= {"voxel_um": VOXEL_UM, "roles": ("signal",)}
    study = create_study(folder, images=images, diameter_um=15, **settings)
    for name, _ in animals:
        study.save_candidates(name, candidates_of(name, n, share, rng), made_by={"network": "net-a"})
    return study


def candidates_of(name: str, n: int, share: float, rng: np.random.Generator) -> pd.DataFrame:
    cell = rng.random(n) < share
    evidence = 3.0 * (np.where(cell, 1.5, -1.5) + rng.normal(size=n)) - 1
    places = rng.random((n, 3)) * (np.array(SHAPE) - 1)
    table = pd.DataFrame(places, columns=["z", "y", "x"]).assign(image=name, frame=0, score=evidence)
    p = expit(evidence)
    return table.assign(diameter_um=15.0, p=p, called=p >= 0.5, network="net-a", cell=cell)


def truth_at(study: Study, places: pd.DataFrame) -> np.ndarray:
    """Say which of these places hold a cell, shape (n,)."""
    both = places[["image", "z", "y", "x"]].merge(study.candidates(), how="left", on=["image", "z", "y", "x"])
    return both["cell"].to_numpy(bool)


def answer(study: Study, queue: pd.DataFrame, *, who: str = "me", wrong: float = 0.0) -> None:
    """Answer a queue as the truth says, but for a share of wrong answers."""
    positive, negative = study.settings.classes
    flip = np.random.default_rng(1).random(len(queue)) < wrong
    cell = truth_at(study, queue) ^ flip
    study.ledger(who).add(queue.assign(answer=np.where(cell, positive, negative)))


def second_network(monkeypatch, study: Study, *, better: float = 1.0, name: str = "net-b") -> str:
    """Let `call_places` find a network that multiplies the evidence of the truth by `better`."""
    from types import SimpleNamespace

    from cellkit.measuring import audits
    from cellkit.networks.card import NetworkCard

    def call_places(study, network, places):
        known = places[["image", "z", "y", "x"]].merge(study.candidates(), on=["image", "z", "y", "x"])
        return expit(known["score"] + better * np.where(known["cell"], 1, -1))

    def load_network(found, folder, task):
        return SimpleNamespace(card=NetworkCard(found, threshold=0.5, sha256="0" * 64))

    monkeypatch.setattr(audits.embedding_store, "call_places", call_places)
    monkeypatch.setattr(audits, "load_network", load_network)
    return name
