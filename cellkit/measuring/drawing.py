"""Draw an audit: frozen once drawn, extended without losing what it said."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import pandas as pd

from cellkit import __version__
from cellkit.folder.disk import fingerprint, writing
from cellkit.folder.holdings import audit_frame_file, extend_audit_file
from cellkit.labels.places import add_micrometres, cube_sides_um
from cellkit.measuring.audits import PLACE_UM, REGION, check_audit, frame_hashes
from cellkit.measuring.strata import Shares, draw_strata, make_strata, top_up
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS, read_table, write_table

TRAIN_SHARE, RANDOM_SHARE = 0.3, 0.25
DRAWN_COLUMNS = [*PLACE_UM, "animal", "role", REGION, "stratum", "weight", "part", "p", "called", "network"]
KEPT_COLUMNS = [
    "animal", "role", REGION, "p", "called", "network", "group", "in_group", "stratum", "in_stratum",
]  # fmt: skip


def draw_audit(
    study: Study,
    n: int = 300,
    *,
    name: str = "audit",
    seed: int | None = None,
    train_share: float = TRAIN_SHARE,
    random_share: float = RANDOM_SHARE,
) -> pd.DataFrame:
    """Draw an audit once; the same call returns it unchanged ever after.

    Every candidate can be drawn, with a known probability: by animal and by steps of `p`, more where the
    network is undecided, at least 10 in each stratum, spread over regions and depth.

    Parameters
    ----------
    study : Study
        With candidates that a network has called; a column `region` of theirs is kept with the places.
    n : int
        Places to draw, over all animals; `plan_audit` says how many it takes.
    name : str
        Another name is another audit.
    seed : int, optional
        The study's own if left out.
    train_share : float
        Where some images judge, the most that the others get of the places. What is audited there may not
        train, nor may neighbours whose cubes overlap it, so they get fewer where that would bar more than a
        third. With 0 nothing is lost for training, and counts of those animals rest on the error rates of
        the judging ones.
    random_share : float
        Share of the places that is drawn whatever `p` is: a check that leans on no network.

    Returns
    -------
    DataFrame
        `image, frame, z, y, x, z_um, y_um, x_um, animal, role, region, stratum, weight, part, p, called,
        network, phase`; `weight` is 1 / probability of having been drawn, `part` "random" or "stratum",
        `phase` the number of the draw, from 1.

    Raises
    ------
    ValueError
        If candidates are not called, or `n` or a share cannot be.
    """
    if name in study.audits():
        return study.audit(name)[0]
    seed = study.settings.seed if seed is None else seed
    rng = np.random.default_rng([seed, crc32(name.encode())])
    strata = make_strata(
        frame_to_draw(study), n, shares=Shares(train_share, random_share), side_um=cube_sides_um(study)
    )
    drawn = draw_strata(strata, random_share=random_share, rng=rng)
    kept = strata[[*PLACE_COLUMNS, *KEPT_COLUMNS]].reset_index(drop=True)
    record = {
        "seed": int(seed),
        "frame": frame_hashes(strata),
        "images": {image: study.image_fingerprint(str(image)) for image in strata["image"].unique()},
        "strata": _strata_record(drawn),
        "random_share": random_share,
        "drawn_from": fingerprint(kept),
        "cellkit": __version__,
    }
    with writing(study.folder, what="The study's folder"):
        write_table(kept, audit_frame_file(study.folder, name))
    study.save_audit(name, drawn[[*PLACE_COLUMNS, *DRAWN_COLUMNS]], record)
    return study.audit(name)[0]


def extend_audit(
    study: Study, n: int, *, name: str = "audit", animals: Sequence[str] | None = None
) -> pd.DataFrame:
    """Draw further places of an audit; all its answers stay good, and its weights become those of both draws.

    The places come from the strata of the first draw, without replacement, whatever networks were made and
    whatever was answered since. Each call is another draw.

    Parameters
    ----------
    study : Study
        With an audit of this name.
    n : int
        Further places; fewer where fewer candidates are left.
    name : str
        Of the audit.
    animals : sequence of str, optional
        Who gets them; all if left out, each as large a share as of the first draw. What is audited in an
        animal that trains can train no longer.

    Returns
    -------
    DataFrame
        All places of the audit, as `draw_audit` returns them.

    Raises
    ------
    ValueError
        If there is no such audit, `n` is below 1, an animal is not in it, all is drawn already, or it cannot
        measure any more (see `audits.check_audit`).
    """
    places, record = study.audit(name)
    check_audit(study, name, record)
    strata = kept_strata(study, name, record)
    strata = strata[strata["group"].isin(_groups_of(strata, animals))]
    keys = list(PLACE_COLUMNS)
    drawn = strata[keys].merge(places[keys].assign(drawn=True), on=keys, how="left")["drawn"].eq(True)
    left = int((~drawn).sum())
    if n < 1 or left == 0:
        raise ValueError(
            f"An audit is extended by places that are not in it yet; got n = {n} of {left} left. "
            "Ask for fewer, or answer the ones there are."
        )
    phase = int(places["phase"].max()) + 1
    rng = np.random.default_rng([record["seed"], crc32(name.encode()), phase])
    more = top_up(strata, drawn.to_numpy(), n, rng)
    more = add_micrometres(study, more).assign(weight=1.0)
    said = {"phase": phase, "strata": _strata_record(more), "cellkit": __version__}
    extend_audit_file(study.folder, name, more[[*PLACE_COLUMNS, *DRAWN_COLUMNS]], said)
    return study.audit(name)[0]


def frame_to_draw(study: Study) -> pd.DataFrame:
    """Return all candidates in order of region and place, with their animal, role and region.

    Raises
    ------
    ValueError
        If there are none, or not all are called.
    """
    table = study.candidates()
    if table.empty or "p" not in table or table["p"].isna().any():
        came = "this study has none" if table.empty else "not all of this study's are called"
        raise ValueError(
            f"An audit is drawn from called candidates; {came}. "
            "Run detect.detect(study), then detect.classify(study)."
        )
    table[REGION] = table[REGION].astype("str") if REGION in table else ""
    table = add_micrometres(study, table.sort_values(["image", REGION, "frame", "z", "y", "x"]))
    of_image = {image: study.entry(image) for image in table["image"].unique()}
    return table.assign(
        animal=[of_image[image].animal for image in table["image"]],
        role=[of_image[image].role for image in table["image"]],
    )


def _strata_record(drawn: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(stratum): {"candidates": int(part["in_stratum"].iloc[0]), "places": len(part)}
        for stratum, part in drawn.groupby("stratum")
    }


def kept_strata(study: Study, name: str, record: dict) -> pd.DataFrame:
    """Return the candidates that an audit was drawn from as they were then, with `group` and `stratum`.

    Raises
    ------
    ValueError
        If they are not there, or were changed.
    """
    file = audit_frame_file(study.folder, name)
    kept = {"group": "str", "in_group": "int64", "stratum": "str", "in_stratum": "int64"}
    strata = read_table(file, PLACE_COLUMNS | kept) if file.exists() else pd.DataFrame()
    if strata.empty or fingerprint(strata) != record.get("drawn_from"):
        came = "changed since" if len(strata) else "not there"
        raise ValueError(
            f"An audit is extended from the candidates it was drawn from; {file.name} of {name!r} is {came}. "
            "Put back a copy, or draw another audit: review.draw_audit(study, name=...)."
        )
    return strata


def _groups_of(strata: pd.DataFrame, animals: Sequence[str] | None) -> set[str]:
    there = strata.drop_duplicates(["group", "animal", "role"])
    animals = there["animal"].tolist() if animals is None else animals
    strange = [animal for animal in animals if animal not in set(there["animal"])]
    if strange or not animals:
        named = ", ".join(dict.fromkeys(there["animal"]))
        raise ValueError(
            f"An audit is extended in its own animals, {named}; got {strange[0] if strange else 'none'!r}. "
            "Choose among them."
        )
    return set(there.loc[there["animal"].isin(animals), "group"])
