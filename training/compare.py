"""What the recipe of the supplied network owes to each of its parts: the same training with one part changed.

    python training/compare.py --real DIR

With `--untrained DIR` it writes a network that has learnt nothing there instead, for
`benchmarks/real_loop.py --base DIR/untrained`.

Every variant learns from the same 40 synthetic volumes (and, where it says so, real ones), and is judged
on 16 other synthetic volumes and on the cfos and microglia volumes that are left out of all of them.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
from sources import GEOMETRY, Recipe, gather, joined
from supplied import SETTINGS, Plan, cells_there, judge, train

from cellkit.networks import NetworkCard, save_network
from cellkit.networks.architectures import ClassifierSettings, build_classifier

RECIPE = Recipe(volumes=(40, 12, 16), cuts=(("cfos", 1), ("microglia", 2)), left_out=("1147", "6506", "7466"))
SIZES = {
    "small": ClassifierSettings(stem=16, widths=(32, 48, 48)),
    "medium": ClassifierSettings(),
    "large": ClassifierSettings(stem=32, widths=(64, 128, 128)),
}


def variants(plan: Plan) -> dict[str, Plan]:
    """Return the plans to compare, by name."""
    return {
        "as-shipped": plan,
        "synthetic-only": plan._replace(real=None),
        "batch-norm": plan._replace(sizes=ClassifierSettings(groups=0)),
        "small": plan._replace(sizes=SIZES["small"]),
        "large": plan._replace(sizes=SIZES["large"]),
        "fixed-cubes": plan._replace(recipe=replace(plan.recipe, geometry="fixed")),
    }


def main() -> None:
    """Train every variant and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path)
    parser.add_argument("--untrained", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("training-cache/compared"))
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    if options.untrained:
        save_network(build_classifier((*GEOMETRY.shape, 3)), NetworkCard(name="untrained"), options.untrained)
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    settings = replace(SETTINGS, epochs=options.epochs)
    plan = Plan(RECIPE, ClassifierSettings(), settings, options.cache, options.real)
    rows = []
    for name, variant in variants(plan).items():
        network = train(variant, name)
        test = joined([
            gather("test", replace(variant.recipe, left_out=()), variant.cache, None),
            gather("test", replace(variant.recipe, volumes=(40, 12, 0)), variant.cache, options.real),
        ])  # fmt: skip
        counts = judge(network, test, cells_there(options.real))
        real = counts["volume"].isin(variant.recipe.left_out)
        row = {"variant": name, "parameters": network.model.count_params()}
        for kind, which in (("one", ~counts["two"]), ("two", counts["two"])):
            row[f"synthetic, {kind} channel"] = _f1(counts[~real & which])
        row |= {str(count["volume"]): _f1(count.to_frame().T) for _, count in counts[real].iterrows()}
        rows.append(row | {"minutes": network.card.settings["minutes"]})
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def _f1(counts: pd.DataFrame) -> float:
    return float(2 * counts["hits"].sum() / (counts["called"].sum() + counts["there"].sum()))


if __name__ == "__main__":
    main()
