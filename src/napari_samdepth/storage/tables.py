"""Tables as CSV that spreadsheets and pandas both read as what they are."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from napari_samdepth.measure.readout import DEPTH_COLUMNS, plain_name, with_units

DIGITS = 7
"""Digits of a number; more where a column's numbers differ by little, and three decimals where those are not enough."""

# what pandas.read_csv takes for a missing value (its documented list)
_MISSING = {
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
# what spreadsheets make a date, a time or a number of, "MARCH1" and "2-3" included
_VALUE = re.compile(
    rf"\d+([-/.:]\d+)+|{_MONTH}[-\s./,]*\d+|\d+[-\s./,]*{_MONTH}([-\s./,]*\d+)?|[\d.,'\s]*\d[\d.,'\s]*(e[+-]?\d+)?\s*%?",
    re.IGNORECASE,
)


def to_csv(table: pd.DataFrame) -> str:
    r"""Return a table as CSV, its index first if that has a name; columns of depth have their unit in the title.

    Text that a spreadsheet would compute or turn into something else ("=1+1", "@a", "-b", "007", "2-3", "MARCH1"), or
    pandas into a missing value or a number ("NA", "nan", "1e5"), gets an apostrophe in front, and so does text that
    begins with one: ``pandas.read_csv(path)["name"].str.removeprefix("'")`` is what it was. Missing values are empty.
    """
    named = with_units(table)
    if named.index.name is not None:
        named = named.reset_index()
    columns = {at: _column(named.iloc[:, at], str(name)) for at, name in enumerate(named.columns)}
    made = pd.DataFrame(columns, index=named.index)
    made.columns = pd.Index([_marked(str(name), _begins_a_formula(str(name))) for name in named.columns])
    # csv quotes a text for the characters of the line's end in it, and a lone carriage return is one to readers
    returns = any("\r" in str(cell) for column in columns.values() if column.dtype.kind == "O" for cell in column)
    return made.to_csv(index=False, lineterminator="\r\n" if returns else "\n")


def _column(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    if column.dtype.kind == "f":
        return _floats(column, plain_name(name) in DEPTH_COLUMNS)
    if column.dtype.kind in "biu":
        return column
    return pd.Series([_cell(cell, name == "in_front_of") for cell in column], index=column.index, dtype=object)


def _floats(column: pd.Series[Any], depth: bool) -> pd.Series[Any]:
    """Return the numbers as text; "" where there are none."""
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    finite = numbers[np.isfinite(numbers)]
    largest = float(np.abs(finite).max(initial=0))
    span = float(np.ptp(finite)) if finite.size else 0.0
    digits = DIGITS
    if depth and span > 0:  # what tells apart heights of 4e8 nm lies in their last digits
        digits += max(math.floor(math.log10(largest / span)), 0)
    if largest >= 1:
        digits = max(digits, math.floor(math.log10(largest)) + 4)
    texts = ["" if math.isnan(number) else f"{number:.{min(digits, 17)}g}" for number in numbers.tolist()]
    return pd.Series(texts, index=column.index, dtype=object)


def _cell(cell: Any, numbers: bool) -> Any:
    """Return what to write for a cell; `numbers` are texts of ours like "5, 9"."""
    if isinstance(cell, bool | int | np.bool_ | np.integer):
        return cell
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.{DIGITS}g}"
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return ""
    text = str(cell)
    if numbers and re.fullmatch(r"-?\d+|\d+(, -?\d+)*", text):
        return text
    return _marked(text, _begins_a_formula(text) or _is_taken_for_a_value(text))


def _marked(text: str, mark: bool) -> str:
    return f"'{text}" if mark else text


def _begins_a_formula(text: str) -> bool:
    return text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "'", "＝", "＋", "－", "＠"))


def _is_taken_for_a_value(text: str) -> bool:
    plain = text.strip()
    words = plain in _MISSING or plain.lower() in ("true", "false", "inf", "infinity")
    return words or _VALUE.fullmatch(plain) is not None
