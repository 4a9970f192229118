"""What the scripts of this folder share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench/peers"))
from common import REQUIREMENTS, OneLine, file, folder, number, packaged_model, rows  # noqa: E402, F401


def folder_with(*names):
    """What an option takes that is a folder with these files."""
    def parse(text):
        for name in names:
            file(Path(text) / name)
        return Path(text)
    return parse


def texts_of(path):
    """The texts of a TSV of GoEmotions, read as its reference loader does."""
    return [text for text, _ in rows(path)]
