"""What an audit holds: its places, their blind answers, and what any network calls them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cellkit.folder.disk import fingerprint
from cellkit.ledger import current_labels
from cellkit.match import match_points
from cellkit.networks.store import Network, load_network
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS, UNSURE, check_table
from cellkit.teaching import embedding_store

PLACE_UM = ["z_um", "y_um", "x_um"]
CALLS = ["p", "called", "network"]
SUPPLIED = "cells-1"
REGION = "region"


def frame_hashes(candidates: pd.DataFrame) -> dict[str, str]:
    """Return what tells one detection of each image from another: a hash of its places."""
    places = candidates[list(PLACE_COLUMNS)].sort_values(list(PLACE_COLUMNS))
    return {str(image): fingerprint(part.reset_index(drop=True)) for image, part in places.groupby("image")}


def read_audit(
    study: Study, name: str = "audit", *, who: str | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the places of an audit with their blind answers, and the record of the draw.

    Parameters
    ----------
    study : Study
        With an audit of this name.
    name : str
        As it was drawn.
    who : str, optional
        Whose answers; if left out, the newest at each place, whoever gave it.

    Returns
    -------
    tuple of DataFrame and dict
        The places, with `answer` ("" where there is none yet) and `now`, the answer after later corrections.
        Only `answer` measures: who corrects where the network disagrees, and only there, flatters it.
        `differ` says where two people answered differently.

    Raises
    ------
    ValueError
        If there is no such audit, its candidates were detected anew or an image was replaced since, or this
        person has not answered it.
    """
    if name not in study.audits():
        raise ValueError(
            f"Measuring needs an audit; this study has none of the name {name!r}. "
            "Draw it with review.draw_audit(study), then answer it."
        )
    places, record = study.audit(name)
    check_audit(study, name, record)
    events = study.events()
    blind = events[events["origin"] == "audit"]
    each = [current_labels(part, within_um=0.0) for _, part in blind.groupby("who")]
    told = [pd.Series(_answers_at(study, places, labels)).replace("", np.nan) for labels in each]
    differ = pd.concat(told, axis=1).nunique(axis=1).to_numpy() > 1 if told else False
    if who is not None:
        blind = blind[blind["who"] == who]
    answer = _answers_at(study, places, current_labels(blind, within_um=0.0))
    if who is not None and not (answer != "").any():
        people = ", ".join(answered_by(study, name)) or "nobody"
        raise ValueError(
            f"An audit is read by the answers of somebody who gave some; got {who!r}, of {people}. "
            "Choose one."
        )
    places = places.assign(answer=answer, differ=differ)
    return places.assign(now=_answers_at(study, places, study.labels())), record


def answered_by(study: Study, name: str = "audit") -> list[str]:
    """Return who has answered places of an audit, sorted."""
    places, _ = study.audit(name)
    events = study.events()
    blind = events[events["origin"] == "audit"]
    told = {str(who): current_labels(part, within_um=0.0) for who, part in blind.groupby("who")}
    return [who for who, labels in told.items() if (_answers_at(study, places, labels) != "").any()]


def check_audit(study: Study, name: str, record: dict[str, Any]) -> None:
    """Refuse an audit whose images were replaced, or whose candidates were detected anew, since it was drawn.

    Raises
    ------
    ValueError
        Names the first such image.
    """
    check_images(study, record.get("images", {}), f"{name!r} was")
    now = frame_hashes(study.candidates())
    changed = [image for image, drawn_from in record["frame"].items() if now.get(image) != drawn_from]
    if changed:
        raise ValueError(
            "An audit measures the candidates that it was drawn from; "
            f"{changed[0]!r} was detected anew since {name!r} was drawn. "
            "Draw an audit of another name: review.draw_audit(study, name=...)."
        )


def check_images(study: Study, drawn_on: Mapping[str, str], what: str) -> None:
    """Refuse answers about images that are not what they were; `drawn_on` has the fingerprint of each.

    Raises
    ------
    ValueError
        Names the first image that was replaced or is gone.
    """
    for image, then in drawn_on.items():
        if image not in study.names or study.image_fingerprint(image) != then:
            raise ValueError(
                f"Answers measure the images that they were given on; {image!r} was replaced since {what} "
                "drawn, so they are about other pixels. Put the old image back, or draw under another name."
            )


def _answers_at(study: Study, places: pd.DataFrame, labels: pd.DataFrame) -> np.ndarray:
    """Return the answer of the label that lies at each place, "" without one."""
    answers = np.full(len(places), "", dtype=object)
    within = 0.1 * study.settings.diameter_um
    rows_of = places.groupby(["image", "frame"]).indices
    for key, part in labels.groupby(["image", "frame"]):
        if key in rows_of:
            rows = rows_of[key]
            there = part[PLACE_UM].to_numpy("float64")
            match = match_points(places[PLACE_UM].to_numpy("float64")[rows], there, within_um=within)
            answers[rows[match.found]] = part["answer"].to_numpy()[match.true]
    return answers


def measured(places: pd.DataFrame) -> np.ndarray:
    """Say which places of an audit have an answer that measures, shape (n,): not open, and not "unsure"."""
    return ~places["answer"].isin(["", UNSURE]).to_numpy()


def newest_network(study: Study) -> str:
    """Return the network that was made last; without one, the one that called; else the supplied one."""
    if names := study.networks():
        return names[-1]
    candidates = study.candidates()
    called_by = candidates["network"].iloc[0] if "network" in candidates and len(candidates) else ""
    return str(called_by or SUPPLIED)


def find_network(study: Study, name: str) -> Network:
    """Return a network of the study or a supplied one; errors as of `networks.store.load_network`."""
    return load_network(name, study.folder / "networks", task=study.settings.task)


def call_places(study: Study, places: pd.DataFrame, network: str | None = None) -> pd.DataFrame:
    """Return the places with `p`, `called` and `network` of any network; the study's own calls stay.

    Calls that the network has made of these candidates are taken over; the rest is predicted.

    Parameters
    ----------
    study : Study
    places : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    """
    network = network or newest_network(study)
    places = check_table(places, PLACE_COLUMNS, what="places").drop(columns=CALLS, errors="ignore")
    known = _calls_of(study, network).drop_duplicates(list(PLACE_COLUMNS))
    called = places.merge(known, on=list(PLACE_COLUMNS), how="left")
    called.index = places.index
    return _predict_rest(study, called, network).assign(network=network)


def _calls_of(study: Study, network: str) -> pd.DataFrame:
    """Return what a network has called of the study's candidates, if it is still the same network."""
    table = study.candidates()
    if "network" not in table:
        table = table.assign(p=np.nan, called=False, network="")
    now = {card["name"]: card["sha256"] for card in study.cards()}.get(network)
    made = {image: study.made_by(str(image)).get("network_sha256") for image in table["image"].unique()}
    same = table["image"].map(lambda image: now in {None, made[image]}).astype(bool)
    return table.loc[(table["network"] == network) & same, [*PLACE_COLUMNS, "p", "called"]]


def _predict_rest(study: Study, called: pd.DataFrame, name: str) -> pd.DataFrame:
    p = called["p"].to_numpy("float64", copy=True)
    is_called = called["called"].eq(True).to_numpy(copy=True)
    rest = np.flatnonzero(np.isnan(p))
    if len(rest):
        network = find_network(study, name)
        p[rest] = embedding_store.call_places(study, network, called.iloc[rest])
        is_called[rest] = p[rest] >= network.card.threshold
    return called.assign(p=p, called=is_called)
