from dataclasses import replace

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from made_up import answer, make_study
from matplotlib.figure import Figure

matplotlib.use("Agg")

from cellkit import plots
from cellkit.augment import AugmentSettings
from cellkit.estimates import agreement
from cellkit.labels.balance import meter
from cellkit.plots.style import INK, nice_length
from cellkit.reassess import assess, counts
from cellkit.review import audit_queue, draw_audit, errors
from cellkit.teaching.learning import read_curves


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("drawn") / "study", seed=4)
    draw_audit(study, 200)
    answer(study, audit_queue(study))
    return study


@pytest.fixture
def figures(study):
    """Every figure, as a function of `ax`."""
    assessment = assess(study, "net-a")
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "loss": [4, 3, 2, 1.0], "val_loss": [4, 2, 3, 5.0]})
    cube = np.random.default_rng(0).normal(size=(6, 12, 12, 3))
    image = study.image("animal-1")
    return {
        "curves": lambda ax: plots.plot_curves(history, ax=ax),
        "variations": lambda ax: plots.plot_variations(cube, AugmentSettings(), ax=ax),
        "confusion": lambda ax: plots.plot_confusion(assessment, ax=ax),
        "precision and recall": lambda ax: plots.plot_precision_recall(assessment, ax=ax),
        "calibration": lambda ax: plots.plot_calibration(assessment, ax=ax),
        "metrics": lambda ax: plots.plot_metrics((assessment, assessment), ax=ax),
        "counts": lambda ax: plots.plot_counts(counts(study, "net-a"), ax=ax),
        "balance": lambda ax: plots.plot_balance(meter(study), ax=ax),
        "probabilities": lambda ax: plots.plot_probabilities(study.candidates(), ax=ax),
        "channels": lambda ax: plots.plot_channels(image, study.intensities("animal-1"), ax=ax),
        "projection": lambda ax: plots.plot_projection(study, "animal-1", color="called", ax=ax),
        "gallery": lambda ax: plots.plot_gallery(study, errors(study, "net-a").head(9), ax=ax),
    }


def test_every_figure_draws_on_the_axes_that_it_is_given_and_returns_them(figures):
    for name, draw in figures.items():
        figure = Figure(layout="constrained")
        ax = figure.subplots()
        assert draw(ax) is ax, name
        assert ax.has_data(), name
        figure.canvas.draw()


def test_every_figure_can_be_seen_through_and_read_on_light_and_dark(figures):
    for name, draw in figures.items():
        figure = Figure()
        ax = draw(figure.subplots())
        assert figure.patch.get_alpha() == 0, name
        assert ax.get_facecolor()[3] == 0, name
        written = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert {text.get_color() for text in written if text.get_text()} <= {INK}, name


def test_without_axes_a_figure_of_its_own_is_made(figures):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    ax = figures["curves"](None)
    assert len(plt.get_fignums()) == len(before) + 1
    plt.close(ax.get_figure())


def test_the_epoch_of_the_least_validation_loss_is_marked(figures):
    ax = figures["curves"](Figure().subplots())
    assert ax.get_title() == "Best: epoch 2"


def test_a_curve_has_its_meaning_below_and_former_rounds_behind():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "loss": [4, 3, 2, 1.0], "val_loss": [4, 2, 3, 5.0]})
    ax = plots.plot_curves(history, former={"net-1": history}, ax=Figure().subplots())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["net-1, held out", "train", "held out"]
    said = ax.get_xlabel().split("\n\n")[1].replace("\n", " ")
    assert said == read_curves(history) != ""


def test_all_curves_of_a_network_are_drawn_into_its_folder(tmp_path):
    study = make_study(tmp_path / "study", n=5)
    for n, name in enumerate(["net-1", "net-2"]):
        folder = study.folder / "networks" / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(f'{{"made_at": "{n}"}}')
        columns = ["loss", "f1", "accuracy", "precision", "recall"]
        history = pd.DataFrame({"epoch": range(1, 6), "learning_rate": 1e-3})
        for column in columns:
            history[column] = history[f"val_{column}"] = np.linspace(1, 0, 5)
        history.to_csv(folder / "history.csv", index=False)
    path = plots.save_curves(study, "net-2")
    assert path == study.folder / "networks" / "net-2" / "curves.png"
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width > height > 500


def test_each_kind_of_variation_is_drawn_with_its_name():
    settings = replace(AugmentSettings.none(), flip=0.5, blur=0.2)
    cube = np.random.default_rng(0).normal(size=(6, 12, 12, 3))
    ax = plots.plot_variations(cube, settings, ax=Figure().subplots())
    assert [text.get_text() for text in ax.texts] == ["flip", "blur", "all together", "as it is"]
    rows = np.asarray(ax.images[0].get_array())
    assert rows.shape == (3 * 14, 6 * 14)
    np.testing.assert_allclose(rows[:12, :12], cube[..., 0].max(axis=0), rtol=1e-6)


def test_the_agreement_of_a_person_with_themself_is_a_band_behind_f1_alone(study):
    found = assess(study, "net-a")
    first = np.arange(60) < 30
    ceiling = agreement(first, first ^ (np.arange(60) % 20 == 0))
    ax = plots.plot_metrics((found,), ceiling=ceiling, ax=Figure().subplots())
    bands = [each for each in ax.collections if hasattr(each, "get_paths") and each.get_alpha() == 0.18]
    corners = bands[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(ceiling.positive.low)
    assert corners[:, 1].max() == pytest.approx(ceiling.positive.high)
    assert corners[:, 0].min() > 1.5, "F1 is the third"
    assert "a person, asked twice" in [text.get_text() for text in ax.get_legend().get_texts()]
    without = plots.plot_metrics((found,), ax=Figure().subplots())
    assert len(without.get_legend().get_texts()) == 1, "control"


def test_a_gallery_of_changes_shows_both_probabilities(study):
    rows = errors(study, "net-a").head(2)
    ax = plots.plot_gallery(study, rows.assign(before=[0.25, 0.5], p=[0.75, 0.125]), ax=Figure().subplots())
    assert {"0.25 → 0.75", "0.50 → 0.12"} <= {text.get_text() for text in ax.texts}
    plain = plots.plot_gallery(study, rows.assign(p=0.75), ax=Figure().subplots())
    assert "p 0.75" in {text.get_text() for text in plain.texts}, "control"


def test_counts_that_assume_equal_errors_are_hollow(study):
    ax = plots.plot_counts(counts(study, "net-a"), ax=Figure().subplots())
    faces = [line.get_markerfacecolor() for line in ax.lines if len(line.get_ydata()) == 2]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["naive", "corrected", "corrected, error rates of all"]
    assert "none" in faces, "both animals that train"


def test_a_projection_shows_the_candidates_of_its_slab_only(study):
    whole = plots.plot_projection(study, "animal-1", ax=Figure().subplots())
    slab = plots.plot_projection(study, "animal-1", depth_um=100, ax=Figure().subplots())
    numbers = [int(ax.get_legend().get_texts()[0].get_text().split(": ")[1]) for ax in (whole, slab)]
    assert numbers[0] == 600
    assert 60 < numbers[1] < 240
    message = (
        r"^`color` must be called or answer, a column of the candidates; got 'p'\. "
        r"Candidates are called by detect\.classify\(study\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        plots.plot_projection(study, "animal-1", color="p", ax=Figure().subplots())


def test_a_gallery_names_every_answer_by_letter_and_leaves_out_what_is_beyond_the_image(study):
    places = errors(study, "net-a").head(9)
    ax = plots.plot_gallery(study, places, ax=Figure().subplots())
    letters = [text.get_text() for text in ax.texts if len(text.get_text()) == 1]
    assert letters == ["C" if answer == "cell" else "X" for answer in places["answer"]]
    corner = places.head(1).assign(y=0.0, x=0.0)
    ax = plots.plot_gallery(study, corner, columns=1, ax=Figure().subplots())
    tile = ax.images[0].get_array()[10:58, 3:51]
    assert np.ma.getmaskarray(np.ma.masked_invalid(tile))[:17, :17].all()
    assert not np.ma.getmaskarray(np.ma.masked_invalid(tile))[28:, 28:].any()


def test_a_gallery_of_nothing_says_so(study):
    ax = plots.plot_gallery(study, errors(study, "net-a").iloc[:0], ax=Figure().subplots())
    assert [text.get_text() for text in ax.texts] == ["Nothing to show: there is no such place."]


def test_scale_bars_have_round_lengths():
    assert [nice_length(whole) for whole in (448, 90, 1300, 7)] == [100, 20, 200, 1]
