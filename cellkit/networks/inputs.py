"""Cubes as a network wants them: cellkit's, or those of the program that it comes from."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from cellkit.cubes import cut_batches
from cellkit.formats.cellfinder_cubes import cut_as_measured
from cellkit.networks.card import AS_MEASURED, NetworkCard
from cellkit.pixels.blocks import Readable
from cellkit.pixels.intensities import Intensities

ROLES = ("signal", "background")


def cut_inputs(
    card: NetworkCard,
    image: Readable,
    places: pd.DataFrame,
    *,
    intensities: Mapping[str, Intensities],
    diameter_um: float,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``(rows, cubes)`` of the shape on the card, in the order that the image is read least.

    Parameters as of `cubes.cut_batches`; a network of another program sees the image as it was measured.

    Raises
    ------
    ValueError
        As `cubes.cut_batches`; or if the network needs a channel that the image has not.
    """
    if card.normalisation != AS_MEASURED:
        yield from cut_batches(
            image, places, intensities=intensities, diameter_um=diameter_um, geometry=card.cube
        )
        return
    missing = [role for role in card.channels if role not in image.roles]
    if missing:
        raise ValueError(
            f"{card.name} sees {' and '.join(card.channels)}; the image has no {missing[0]}. "
            'Take a network that does without, or import it with background="signal".'
        )
    shown = [ROLES.index(role) for role in card.channels]
    for rows, cubes in cut_as_measured(image, places):
        yield rows, cubes[..., shown]
