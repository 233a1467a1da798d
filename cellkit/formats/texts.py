"""XML and YAML of strangers: read as plain data, never expanded, never run."""

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import yaml
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

DEEPEST = 20
NESTS = f"nests deeper than {DEEPEST} levels"
MIB = 2**20


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader to which 1e-05 is a number, as in YAML 1.2 and JSON."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_xml(path: Path) -> Element:
    """Return the root element of an XML file without a document type, hence without entities.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not XML, or declares a document type or entities.
    """
    _check_there(path)
    try:
        return parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ValueError(
            f"An XML file may not declare a document type or entities; {path} does. It was not read: "
            "write it again with the program that it is of."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} must be XML; it cannot be read: {error}. Copy it again.") from error


def read_yaml(path: Path, *, most_mib: int = 1024) -> Any:
    """Return what a YAML file holds: texts, numbers, lists and dicts only.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is larger than `most_mib` MiB, uses aliases, with which a few lines fill any memory, nests
        deeper than 20 levels, or is not YAML.
    """
    _check_there(path)
    if path.stat().st_size > most_mib * MIB:
        size = path.stat().st_size / MIB
        raise ValueError(
            f"{path} may have at most {most_mib} MiB; it has {size:.0f}. It was not read: "
            "is it the right file?"
        )
    text = path.read_bytes()
    try:
        _check_events(text, path)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if "maximum nesting depth" in str(error):  # newer libyaml looks ahead, and gives up by itself
            raise _refused(path, NESTS) from error
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} must be plain YAML; it cannot be read: {reason}. Copy it again.") from error


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"A file must be there to be read; {path} is not. Is the path right?")


def _check_events(text: bytes, path: Path) -> None:
    """Go through the file without building anything; refuse aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise _refused(path, NESTS if depth > DEEPEST else "uses aliases")


def _refused(path: Path, what: str) -> ValueError:
    return ValueError(
        f"A YAML file may have no aliases and at most {DEEPEST} levels; {path} {what}. "
        "It was not read: write it again without."
    )
