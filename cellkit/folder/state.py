"""A study at one moment: what it holds, what in it is stale, and what to do next."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cellkit.folder.disk import fingerprint
from cellkit.folder.holdings import read_assessments, read_box_draws
from cellkit.folder.settings import StudySettings
from cellkit.ledger import read_events
from cellkit.match import attach_labels
from cellkit.tables import UNSURE

DETECT = "detect again (notebook 01)."


@dataclass(frozen=True)
class State:
    """What a study holds now.

    Attributes
    ----------
    folder : str
        Where it lies.
    settings : StudySettings
        What `study.toml` says.
    candidates : DataFrame
        All candidates, as `Study.labelled_candidates` returns them.
    images : dict of str to dict
        For each image `now`, the fingerprint of its present state; `made_by`, what made its candidates; and
        `shape` (t, c, z, y, x), None if it cannot be opened.
    labels, training : DataFrame
        All current labels, and those that may train.
    cards : list of dict
        Of the study's own networks, oldest first.
    audits, boxes : DataFrame
        Columns `name, places, answered`, and `name, boxes, done`.
    drawn : dict of str to dict
        For each audit and draw of boxes, named in words, the fingerprints of its images when it was drawn.
    assessments : dict of int to dict
        By round.
    prints : dict of str to str
        Fingerprints of the labels that may train, `training`, of the answers of audits, `audited`, and of
        what was marked in boxes, `marked`.
    faults : list of str
        Sentences about files that cannot be read.
    """

    folder: str
    settings: StudySettings
    candidates: pd.DataFrame
    images: dict[str, dict[str, Any]]
    labels: pd.DataFrame
    training: pd.DataFrame
    cards: list[dict[str, Any]]
    audits: pd.DataFrame
    boxes: pd.DataFrame
    drawn: dict[str, dict[str, str]]
    assessments: dict[int, dict[str, Any]]
    prints: dict[str, str]
    faults: list[str]


def take_state(study: Any) -> State:
    """Return what a `Study` holds now; that class stands on the floor above, so it is not named here."""
    labels, training, audited = study.labels(), study.training_labels(), study.audit_labels()
    images, faults = {}, []
    for name in study.names:
        images[name] = {"now": study.image_fingerprint(name), "made_by": study.made_by(name), "shape": None}
        try:
            images[name]["shape"] = study.image(name).shape
        except (ValueError, OSError) as error:
            faults.append(str(error))
    drawn: dict[str, dict[str, str]] = {}
    audits, boxes = _audits_of(study, audited, drawn, faults), _boxes_of(study, drawn, faults)
    marked = fingerprint(read_events(study.folder / "boxes"))
    return State(
        folder=str(study.folder),
        settings=study.settings,
        candidates=study.labelled_candidates(),
        images=images,
        labels=labels,
        training=training,
        cards=study.cards(),
        audits=audits,
        boxes=boxes,
        drawn=drawn,
        assessments=read_assessments(study.folder / "rounds"),
        prints={"training": fingerprint(training), "audited": fingerprint(audited), "marked": marked},
        faults=faults,
    )


def _audits_of(
    study: Any, audited: pd.DataFrame, drawn: dict[str, dict[str, str]], faults: list[str]
) -> pd.DataFrame:
    audits = []
    for name in study.audits():
        try:
            places, record = study.audit(name)
        except ValueError as error:
            faults.append(str(error))
            continue
        within = study.settings.diameter_um / 10
        told = attach_labels(places, audited, voxel_um=study.voxel_um, within_um=within)
        audits.append({"name": name, "places": len(told), "answered": int((told["answer"] != "").sum())})
        drawn[f"audit {name!r}"] = record.get("images", {})
    return pd.DataFrame(audits, columns=["name", "places", "answered"])


def _boxes_of(study: Any, drawn: dict[str, dict[str, str]], faults: list[str]) -> pd.DataFrame:
    try:
        draws = read_box_draws(study.folder / "boxes")
    except ValueError as error:
        faults.append(str(error))
        draws = {}
    drawn |= {f"draw of boxes {name!r}": record["images"] for name, (_, record) in draws.items()}
    rows = [(name, len(boxes), int(boxes["done"].sum())) for name, (boxes, _) in draws.items()]
    return pd.DataFrame(rows, columns=["name", "boxes", "done"])


def stale(state: State) -> list[str]:
    """Return a sentence for everything that was made from something that has changed since."""
    return [
        *state.faults,
        *_stale_candidates(state),
        *_stale_draws(state),
        *_stale_labels(state),
        *_stale_network(state),
        *_stale_assessment(state),
    ]


def _stale_candidates(state: State) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for name, image in state.images.items():
        for sentence in _reasons(image, state) if image["made_by"] else ():
            said.setdefault(sentence, []).append(name)
    yield from (sentence.format(listed(names)) for sentence, names in said.items())


def _reasons(image: dict[str, Any], state: State) -> Iterator[str]:
    """Yield why the candidates of an image are stale; {} stands for the names of all such images."""
    made, now, newest = image["made_by"], state.settings.diameter_um, _newest(state)
    if made.get("image") != image["now"]:
        yield f"The candidates of {{}} were found before the image changed: {DETECT}"
    if (found := made.get("diameter_um", now)) != now:
        sizes = f"with a diameter of {found:g} µm, and the study says {now:g} µm"
        yield f"The candidates of {{}} were found {sizes}: {DETECT}"
    if not newest or not made.get("network"):
        return
    calls = f"The candidates of {{}} were called by {_braced(made['network'])}"
    if made["network"] != newest["name"]:
        yield f"{calls}, and the newest network is {_braced(newest['name'])}: classify again (notebook 01)."
    elif made.get("network_sha256", newest.get("sha256")) != newest.get("sha256"):
        yield f"{calls} before it changed: classify again (notebook 01)."


def _stale_draws(state: State) -> Iterator[str]:
    for what, images in state.drawn.items():
        changed = [name for name, then in images.items() if state.images.get(name, {}).get("now") != then]
        if changed:
            yield f"The {what} was drawn before {listed(changed)} changed: draw another (notebook 02)."


def _stale_labels(state: State) -> Iterator[str]:
    classes = state.settings.classes
    strange = state.labels.loc[~state.labels["answer"].isin([*classes, UNSURE]), "answer"]
    if len(strange):
        answers = f"Labels answer {listed(strange.unique())} ({len(strange)} in all)"
        yield f"{answers}, and the study's classes are {listed(classes)}: mend `classes` in study.toml."
    lost = state.labels.loc[~state.labels["image"].isin(list(state.images)), "image"]
    if len(lost):
        yield f"Labels lie in {listed(lost.unique())} ({len(lost)} in all), which this study does not have."


def _stale_network(state: State) -> Iterator[str]:
    newest, n = _newest(state), len(state.training)
    taught = newest["trained_on"] if newest and newest.get("trained_on") else {}
    if newest and taught.get("n", n) != n:
        before = f"{newest['name']} was trained on {taught['n']} labels"
        yield f"{before}, and there are {n} now: retrain (notebook 04)."
    elif newest and taught.get("labels", state.prints["training"]) != state.prints["training"]:
        yield f"{newest['name']} was trained before some labels changed: retrain (notebook 04)."


def _stale_assessment(state: State) -> Iterator[str]:
    if not state.assessments:
        return
    n, said = list(state.assessments.items())[-1]
    newest, basis = _newest(state), said.get("rests_on", {})
    if basis.get("audited", state.prints["audited"]) != state.prints["audited"]:
        yield f"Round {n} was assessed before some answers of its audit changed: assess again (notebook 05)."
    if basis.get("marked", state.prints["marked"]) != state.prints["marked"]:
        yield f"Round {n} was assessed before some cells were marked in boxes: assess again (notebook 05)."
    if newest and basis.get("networks", {}).get(newest["name"], "") != newest.get("sha256"):
        yield f"Round {n} was assessed before {newest['name']} was made: assess again (notebook 05)."


def next_step(state: State) -> str:
    """Return what to do next, with the number of the notebook."""
    without = [name for name, image in state.images.items() if not image["made_by"]]
    uncalled = [name for name, image in state.images.items() if not image["made_by"].get("network")]
    waiting = state.audits[state.audits["answered"] < state.audits["places"]]
    unmarked = state.boxes[state.boxes["done"] < state.boxes["boxes"]]
    said = stale(state)
    again = [sentence.rsplit(": ", 1)[1] for sentence in said if sentence.endswith(").")]
    if without:
        return f"find the candidates in {listed(without)} (notebook 01)."
    if uncalled:
        return f"let a network call the candidates in {listed(uncalled)} (notebook 01)."
    if DETECT in again:
        return DETECT
    if state.audits.empty:
        return "draw an audit, which tells how good the calls are (notebook 02)."
    if len(waiting):
        name, places, answered = waiting.iloc[0][["name", "places", "answered"]]
        return f"answer the audit {name!r}: {answered} of {places} places are answered (notebook 02)."
    if len(unmarked):
        name, boxes, done = unmarked.iloc[0][["name", "boxes", "done"]]
        return f"mark the cells of the boxes {name!r}: {done} of {boxes} are done (notebook 02)."
    if state.training.empty:
        return "label candidates for training (notebook 03)."
    if not state.cards:
        return "retrain on the labels (notebook 04)."
    if again:
        return again[0]
    if not state.assessments:
        return f"assess {state.cards[-1]['name']} on the audit (notebook 05)."
    return "another round if the numbers are not good enough yet: label more (notebook 03)."


def _newest(state: State) -> dict[str, Any] | None:
    return state.cards[-1] if state.cards else None


def _braced(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")


def listed(names: Iterable[Any]) -> str:
    """Return names as a person lists them: "a, b and c"; of more than four the first three."""
    texts = [str(name) for name in names]
    if len(texts) > 4:
        return f"{', '.join(texts[:3])} and {len(texts) - 3} more"
    return " and ".join(", ".join(texts).rsplit(", ", 1)) if len(texts) > 1 else "".join(texts)
