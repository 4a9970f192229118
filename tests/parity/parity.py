"""What the scripts of this folder share."""

import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench/peers"))
from minilm_directory import packaged_model  # noqa: E402, F401: the folder of all-MiniLM-L6-v2


def texts_of(path):
    """The texts of a TSV of GoEmotions, read as its reference loader does."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file, delimiter="\t")]
