"""What the labels of a study balance out to, and what to label next."""

from dataclasses import dataclass

import pandas as pd

from cellkit.labels.sampling import category_names
from cellkit.study import Study
from cellkit.tables import UNSURE

FIRST = 40
ENOUGH = 2000
FAIR = 0.5


@dataclass(frozen=True)
class Balance:
    """How the labels that may train are spread.

    Attributes
    ----------
    table : DataFrame
        Columns `by` ("category", "class", "animal", "origin"), `name`, `labels`; labels of an audit are
        counted under "origin" alone, for they never train.
    advice : str
        What to label next.
    """

    table: pd.DataFrame
    advice: str

    def of(self, by: str) -> pd.Series:
        """Return the numbers of labels by "category", "class", "animal" or "origin"."""
        part = self.table[self.table["by"] == by]
        return pd.Series(part["labels"].to_numpy(), index=part["name"].to_numpy(), name="labels")

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th style='text-align:left'>{by}</th><td style='text-align:left'>"
            + ", ".join(f"{escape(str(name))}: <b>{n}</b>" for name, n in self.of(by).items())
            + "</td></tr>"
            for by in self.table["by"].unique()
        )
        return f"<table>{rows}</table><p>{escape(self.advice)}</p>"


def meter(study: Study) -> Balance:
    """Count the labels of a study by category, class, animal and origin, and say what to label next."""
    labels = study.labels()
    train = labels[(labels["origin"] != "audit") & ~_judges(study, labels)]
    boxes = study.labelled_candidates()
    boxes = boxes[(boxes["origin"] != "audit") & ~_judges(study, boxes)]
    category = boxes["category"] if "category" in boxes else pd.Series(dtype="str")
    animals = [entry.animal for entry in study.settings.images if entry.role != "judge"]
    counts = {
        "category": _count(category, category_names(study.settings.classes)),
        "class": _count(train["answer"], (*study.settings.classes, UNSURE)),
        "animal": _count(
            train["image"].map(lambda name: study.entry(name).animal), tuple(dict.fromkeys(animals))
        ),
        "origin": _count(labels["origin"], tuple(dict.fromkeys(labels["origin"]))),
    }
    table = pd.concat(
        [pd.DataFrame({"by": by, "name": n.index, "labels": n.to_numpy()}) for by, n in counts.items()],
        ignore_index=True,
    )
    return Balance(table, _advice(counts))


def _judges(study: Study, table: pd.DataFrame) -> pd.Series:
    return table["image"].map(lambda name: study.entry(name).role == "judge").astype(bool)


def _count(values: pd.Series, names: tuple[str, ...]) -> pd.Series:
    return values.value_counts().reindex(list(names), fill_value=0).astype("int64")


def _advice(counts: dict[str, pd.Series]) -> str:
    total, category, animal = counts["class"].sum(), counts["category"], counts["animal"]
    if total == 0:
        return f"No label trains yet. Start with a mixed batch of {FIRST}."
    if counts["class"].iloc[:2].min() == 0:
        return f"There is no {counts['class'].iloc[:2].idxmin()} yet: a network cannot learn from one class."
    if len(animal) > 1 and animal.min() < FAIR * animal.mean():
        return f"{animal.idxmin()} has {animal.min()} of {total} labels. Label there next."
    if category.sum() and category.min() < FAIR * category.mean():
        return f"{category.idxmin()} is the emptiest box, with {category.min()} labels. Open a batch of it."
    if total >= ENOUGH:
        return f"{total} labels: more of them rarely help. Look for answers that contradict each other."
    return "The boxes and the animals are even. Retrain, look at the result, and label where it fails."
