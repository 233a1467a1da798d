import numpy as np
import pytest

from cellkit.estimates import compare_animal, shift_index, told_apart


def animal(rng, *, brighter=1.0, moved=0.0, n=500):
    """Candidates of an animal that differs a little from every other, as animals do."""
    y = rng.random(n) < np.clip(rng.normal(0.2, 0.05), 0.05, 0.5)
    embedding = rng.normal(size=(n, 8)) + rng.normal(0, 0.15, 8)
    embedding[:, 0] += 3 * y + moved
    p = 1 / (1 + np.exp(3 - 2 * embedding[:, 0]))
    brightness = brighter * np.exp(rng.normal(0, 0.5, n) + rng.normal(0, 0.1))
    return {"p": p, "brightness": brightness, "embedding": embedding}


def test_the_shift_index_by_hand():
    reference, new = np.repeat([0.0, 1.0], [60, 40]), np.repeat([0.0, 1.0], [20, 80])
    share, other = 60.5 / 101, 20.5 / 101
    expected = (other - share) * np.log(other / share)
    expected += (share - other) * np.log((1 - other) / (1 - share))
    assert shift_index(reference, new, bins=2) == pytest.approx(expected)
    assert shift_index(reference, reference) == 0
    rng = np.random.default_rng(0)
    chance = np.mean([shift_index(rng.normal(size=500), rng.normal(size=500)) for _ in range(100)])
    assert chance == pytest.approx(9 * 2 / 500, rel=0.15)


def test_a_classifier_tells_apart_what_differs_and_nothing_else():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 400, 8))
    assert told_apart(one, other) == pytest.approx(0.5, abs=0.08)
    assert told_apart(one, other + np.eye(8)[0]) == pytest.approx(0.76, abs=0.06)


@pytest.mark.parametrize("trained", [2, 3])
def test_an_animal_like_the_others_passes_and_a_shifted_one_does_not(trained):
    passed, moved, brighter = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        others = [animal(rng) for _ in range(trained)]
        passed.append(not compare_animal(animal(rng), others).unlike)
        moved.append(compare_animal(animal(rng, moved=1.0), others).unlike)
        brighter.append(compare_animal(animal(rng, brighter=2.0), others))
    assert np.mean(passed) >= 0.8
    assert np.mean(moved) >= 0.8
    assert all(each.table.set_index("measure")["unlike"]["brightness"] for each in brighter)


def test_what_to_do_is_said_with_its_numbers():
    rng = np.random.default_rng(3)
    others = [animal(rng), animal(rng)]
    found = compare_animal(animal(rng), others)
    assert found.places == 100
    assert found.sentence == (
        "This animal differs from the 2 animals that trained no more than is usual. "
        "An audit of 100 places would confirm its count."
    )
    found = compare_animal(animal(rng, brighter=3.0), others[:1])
    assert found.places == 400
    assert found.sentence.startswith("This animal is unlike halves of the animal that trained: brightness ")
    assert found.sentence.endswith("Audit 400 places of it before its count is believed.")


def test_animals_that_differ_much_among_themselves_ask_for_a_larger_audit():
    rng = np.random.default_rng(5)
    others = [animal(rng, brighter=1.0), animal(rng, brighter=2.5)]
    found = compare_animal(animal(rng, brighter=1.6), others)
    assert not found.unlike
    assert found.places == 200
    assert found.sentence.startswith(
        "This animal differs from the 2 animals that trained no more than they do from one another, but that "
        "is much (brightness "
    )
    assert found.sentence.endswith("): error rates may differ too. Audit 200 places of it.")


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(4)
    one = animal(rng)
    with pytest.raises(
        ValueError, match=r"^A new animal is compared with animals that trained; got none\. Train .*\.$"
    ):
        compare_animal(one, [])
    with pytest.raises(
        ValueError, match=r"^Every animal needs the same measures; one has no 'brightness'\. Add it\.$"
    ):
        compare_animal(one, [{"p": one["p"]}])
    message = (
        r"^A comparison needs 40 candidates of every animal; got 30 of 'p'\. Label all of so .* animal\.$"
    )
    with pytest.raises(ValueError, match=message):
        compare_animal({"p": one["p"][:30]}, [one])
