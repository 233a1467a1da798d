"""Which key gives which answer, and how a person changes that."""

from cellkit.folder.disk import read_json, write_json, writing
from cellkit.study import Study
from cellkit.tables import UNSURE

COMMANDS = frozenset("abefghlmnrstvz")  # letters that do something else on a screen
FIXED = ("1", "2", "3", "0")
FOLDER = "screens"


def keymap(classes: tuple[str, str]) -> dict[str, str]:
    """Return the answer that each key gives at first; "" takes an answer back."""
    positive, negative = classes
    first = positive[0].lower()
    letter = first if first.isalpha() and first.isascii() and first not in COMMANDS | set("xu") else "p"
    return {letter: positive, "x": negative, "u": UNSURE} | _digits(classes)


def _digits(classes: tuple[str, str]) -> dict[str, str]:
    return dict(zip(FIXED, (*classes, UNSURE, ""), strict=True))


def read_keymap(study: Study, who: str = "me") -> dict[str, str]:
    """Return the answer that each key gives for this person."""
    file = study.folder / FOLDER / "keys.json"
    kept = read_json(file, what="A file of keys").get(who, {}) if file.exists() else {}
    keys = keymap(study.settings.classes)
    answers = list(keys.values())
    known = {key: answer for key, answer in kept.items() if answer in answers}
    known = dict(sorted(known.items(), key=lambda each: answers.index(each[1])))
    return known | _digits(study.settings.classes) if known else keys


def remap(study: Study, key: str, answer: str, who: str = "me") -> dict[str, str]:
    """Let another letter give an answer, for this person from now on; return the new keymap.

    Digits stay as they are: 1, 2 and 3 answer, 0 takes back.

    Raises
    ------
    ValueError
        If the key is not a free letter, or the answer is none.
    OSError
        If it cannot be kept.
    """
    now = read_keymap(study, who)
    answers = (*study.settings.classes, UNSURE)
    if answer not in answers:
        raise ValueError(f"A key gives one of {', '.join(answers)}; got {answer!r}. Choose one of them.")
    if not (len(key) == 1 and key.isascii() and key.islower()) or key in COMMANDS:
        raise ValueError(
            f"A key that answers is a letter that does nothing else on a screen; got {key!r}. "
            f"Press one of {' '.join(sorted(set('abcdefghijklmnopqrstuvwxyz') - COMMANDS))}."
        )
    if now.get(key, answer) != answer:
        raise ValueError(f"A key gives one answer; {key!r} gives {now[key]} already. Press another.")
    new = {old: told for old, told in now.items() if told != answer and old not in FIXED} | {key: answer}
    file = study.folder / FOLDER / "keys.json"
    everyone = read_json(file, what="A file of keys") if file.exists() else {}
    with writing(file.parent, what="The study's folder"):
        write_json(file, everyone | {who: new})
    return read_keymap(study, who)
