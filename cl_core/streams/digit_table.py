"""scikit-learn's real handwritten digits as a table, without torch: 1,797 grey images of 8×8, from the UCI set.

E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# One bit per row, set for the 500 test images: stratified (about 50 per class) and independent of the seed. Equal to
# sklearn.model_selection.train_test_split(…, test_size=500, stratify=labels, random_state=0), as a test checks.
TEST_ROWS = bytes.fromhex(
    "002004c8b526304000164121934205005a00080122240028062c1e081108960a009019120420fca0128110e040"
    "080adab0441524c942c8a00a2030804004d821408b8020004885c40010400ea090000548e800301000020ecc09"
    "005224840083b8013c21a69c0a0224000fc9402804a498cd02124061e500802c604e9c376a8192160154c84048"
    "42a0a4180a5000b40b8561e68811804b126c80c02205068e420109f202c141398813c009190000148e21028410"
    "a8f50033283920c944c8c8680a0102932292030922a6402c26062108a8608198c8a0141286120a12853ca41500"
)


def digit_table() -> np.ndarray:
    """Return [1797, 65]: 64 grey values in 0..16 and the label of every digit. Reads scikit-learn's file directly,
    because importing scikit-learn takes 1.4 s; imports it if the file is elsewhere."""
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if file is not None and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])


def held_out_rows(count: int) -> np.ndarray:
    """Return the mask [count] bool of rows of `digit_table` that are test images."""
    return np.unpackbits(np.frombuffer(TEST_ROWS, np.uint8), count=count).astype(bool)
