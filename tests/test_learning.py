import numpy as np
import pandas as pd
import pytest

from cellkit.teaching.learning import read_curves


def curves(loss, val_loss) -> pd.DataFrame:
    return pd.DataFrame({"epoch": np.arange(1, len(loss) + 1), "loss": loss, "val_loss": val_loss})


EPOCH = np.arange(20)
FALLING = 0.7 * np.exp(-EPOCH / 8)


def noisy(values, seed, amount=0.02):
    return values * np.exp(np.random.default_rng(seed).normal(0, amount, len(values)))


@pytest.mark.parametrize("seed", range(5))
def test_each_kind_of_curve_gets_its_sentence_whatever_the_noise(seed):
    rising = np.where(EPOCH < 7, 0.7 * np.exp(-EPOCH / 8), 0.3 + 0.02 * (EPOCH - 7))
    flat = np.maximum(0.7 * np.exp(-EPOCH / 2), 0.3)
    said = {
        "Still learning": curves(FALLING, noisy(FALLING + 0.02, seed)),
        "Overfitting since epoch": curves(FALLING, noisy(rising, seed)),
        "The labels are the limit: the loss on": curves(FALLING * 0.3, noisy(flat, seed, 0.01)),
        "The labels are the limit: both": curves(flat, noisy(flat + 0.01, seed, 0.01)),
    }
    for start, history in said.items():
        assert read_curves(history).startswith(start), start


def test_the_sentences_hold_the_numbers_of_the_curves():
    val_loss = [0.7, 0.5, 0.3, 0.2, 0.2, 0.2, 0.3, 0.35, 0.4, 0.4]
    assert read_curves(curves(np.linspace(0.7, 0.1, 10), val_loss)) == (
        "Overfitting since epoch 5: the loss on held-out labels has risen by 100% since, while that on the "
        "labels that train fell. The best epoch is kept; more labels help, more epochs do not."
    )
    assert read_curves(curves(0.8 ** np.arange(12), 0.8 ** np.arange(12))) == (
        "Still learning: the loss on held-out labels fell by 43% over the last 3 epochs. "
        "More epochs may help: continue_training."
    )
    assert read_curves(curves([0.1] * 8, [0.3] * 8)) == (
        "The labels are the limit: the loss on held-out labels is flat, and 3.0 times that on the labels "
        "that train. More, and more varied, labels help; more epochs do not."
    )
    assert read_curves(curves([0.3] * 8, [0.3] * 8)) == (
        "The labels are the limit: both losses are flat and close to one another, so all that these labels "
        "teach is learnt. Look for labels that contradict each other, or label other kinds of places."
    )


def test_a_rise_while_the_training_loss_rises_too_is_not_overfitting():
    rising = [0.7, 0.4, 0.2, 0.2, 0.2, 0.25, 0.3, 0.35]
    assert read_curves(curves(rising, rising)) == (
        "Unlearning since epoch 4: both losses have risen since, that on held-out labels by 62%. "
        "The best epoch is kept; lower the learning rate."
    )


def test_when_the_network_before_the_first_epoch_is_kept_that_is_said():
    history = curves(FALLING, FALLING)
    assert read_curves(history.assign(kept=0.0)) == (
        "None of 20 epochs judged the held-out labels better, by more than chance, than the network before "
        "the first, which was kept. More labels help, or a lower learning rate."
    )
    assert read_curves(history.assign(kept=1.0)).startswith("Still learning"), "control"


def test_few_epochs_say_nothing_and_none_is_refused():
    assert read_curves(curves([0.5], [0.5])) == (
        "Too early to say: 1 epoch. Curves can be read from 4 epochs on."
    )
    assert read_curves(curves([0.5] * 3, [0.5] * 3)).startswith("Too early to say: 3 epochs.")
    with pytest.raises(ValueError, match=r"^Curves need at least one epoch; got none\. Train first\.$"):
        read_curves(curves([], []))
