"""Tables as CSV: spreadsheets compute nothing in them, pandas reads back what was written."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_samdepth.core.depthmap import DepthMap
from napari_samdepth.measure.readout import DEPTH_COLUMNS, depth_readout
from napari_samdepth.storage.export import write_table
from napari_samdepth.storage.tables import to_csv

MARKED = [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "'quoted", "''twice", "-",
    "NA", "nan", "NaN", "None", "null", "N/A", "<NA>", "n/a", "NULL",
    "007", "12", "1e5", "1.50", "1,5", "12 %", "-3", "inf", "True", "FALSE",
    "2-3", "1/2", "2020-01-01", "12:30", "MARCH1", "Sept 2", "1-dec", "3 May 2020",
]  # fmt: skip
PLAIN = [
    "nucleus", 'a "b" c', "a, b", "two\nlines", "a\rb", "a;b\tc", " padded ", "3 coins", "B2", "cell 7", "Zelle Größe",
    "核", "über", "maybe", "may", "market 3a", "e5", "a=b", "#1", "x'y", "N", "none of these", "1a",
]  # fmt: skip


def table_of(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"score": 0.5, "name": names}, index=pd.RangeIndex(1, len(names) + 1, name="label"))


@pytest.mark.parametrize("names", [MARKED, PLAIN, *([name, name] for name in MARKED + PLAIN)])
def test_names_come_back_as_they_were(tmp_path: Path, names: list[str]) -> None:
    path = write_table(tmp_path / "table.csv", table_of(names))
    back = pd.read_csv(path, index_col="label")
    assert back.index.tolist() == list(range(1, len(names) + 1))
    assert back["name"].str.removeprefix("'").tolist() == names
    assert back["score"].tolist() == [0.5] * len(names)


@pytest.mark.parametrize("name", MARKED)
def test_what_spreadsheets_or_pandas_would_change_is_marked(name: str) -> None:
    assert list(csv.reader(StringIO(to_csv(table_of([name])), newline="")))[1][2] == f"'{name}"


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_stay_as_they_are(name: str) -> None:
    assert list(csv.reader(StringIO(to_csv(table_of([name])), newline="")))[1][2] == name


def test_excel_is_told_of_letters_beyond_ascii_and_nobody_else(tmp_path: Path) -> None:
    assert write_table(tmp_path / "a.csv", table_of(["cell"])).read_bytes().startswith(b"label,")
    assert write_table(tmp_path / "b.csv", table_of(["Zelle Größe"])).read_bytes().startswith(b"\xef\xbb\xbflabel,")
    assert list(pd.read_csv(tmp_path / "b.csv").columns) == ["label", "score", "name"]


def test_titles_that_the_user_made_compute_nothing() -> None:
    table = table_of(["a"]).assign(**{"=1+1": 1, "2-3": 2})
    assert to_csv(table).splitlines()[0] == "label,score,name,'=1+1,2-3"


def test_every_kind_of_cell() -> None:
    table = pd.DataFrame(
        {
            "text": pd.Categorical(["=1", "b", None]),
            "mixed": [1, None, "=x"],
            "flags": [True, False, True],
            "holes": [0.25, np.nan, np.inf],
            "whole": np.array([1, 2**63 + 5, 2**64 - 1], dtype=np.uint64),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    assert to_csv(table).splitlines() == [
        "text,mixed,flags,holes,whole,nullable",
        "'=1,1,True,0.25,1,1",
        f"b,,False,,{2**63 + 5},",
        f",'=x,True,inf,{2**64 - 1},3",
    ]


def readout(zero: float, unit: str | None) -> pd.DataFrame:
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[5:25, 5:25], labels[5:25, 25:50] = 3, 7
    values = zero + labels + np.linspace(0, 0.5, 60)
    return depth_readout(labels, DepthMap(values, "height", unit))


def test_columns_of_depth_say_their_unit(tmp_path: Path) -> None:
    table = readout(0, "µm")
    back = pd.read_csv(write_table(tmp_path / "table.csv", table), index_col="label", keep_default_na=False)
    titles = {f"{name} [µm]" if name in DEPTH_COLUMNS else name for name in table.columns}
    assert set(back.columns) == titles
    np.testing.assert_allclose(back["median [µm]"], table["median"], rtol=1e-6)
    assert back["in_front_of"].tolist() == table["in_front_of"].tolist() == ["", "3"]
    assert "median [" not in to_csv(readout(0, None))
    assert "median" in table.columns, "names in scripts stay"


def test_numbers_far_from_zero_keep_what_tells_them_apart(tmp_path: Path) -> None:
    table = readout(4e8, "nm")
    back = pd.read_csv(write_table(tmp_path / "table.csv", table), index_col="label")
    np.testing.assert_allclose(back["median [nm]"] - 4e8, table["median"] - 4e8, atol=1e-3)
    small = table.assign(median=[0.4, 0.4 + 1e-8])
    back = pd.read_csv(write_table(tmp_path / "small.csv", small), index_col="label")
    assert np.diff(back["median [nm]"]) == pytest.approx(1e-8, rel=1e-3)
    assert "0.3," in to_csv(pd.DataFrame({"median": [np.float32(0.3), np.float32(0.5)], "x": 1}))
