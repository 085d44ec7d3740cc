"""CSV as other programs write it: each test has the header of such a program, and rows made up for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.core.files import T0, places, rows_of, source_of
from trackgen_core.readers import UnreadableFile, columns
from trackgen_core.readers.tables import AMBIGUOUS, INVALID, UTC_ASSUMED

KNOT = 1852 / 3600
UNICSV = "No,Latitude,Longitude,Altitude,Speed,Course,Date,Time\n"
QSTARZ = (
    "INDEX,TRACK ID,VALID,"
    "UTC DATE,UTC TIME,LOCAL DATE,LOCAL TIME,MS,LATITUDE,N/S,LONGITUDE,E/W,ALTITUDE(m),SPEED(km/h)\n"
)
COLUMBUS = "INDEX,TAG,DATE,TIME,LATITUDE N/S,LONGITUDE E/W,HEIGHT,SPEED,HEADING,VOX\n"


@pytest.mark.parametrize(
    ("date", "clock", "ms"),
    [
        ("2024/05/01", "10:00:01", 1000),
        ("2024-05-01", "10:00:01.250", 1250),
        ("2024.05.01", "10:00", 0),
        ("01.05.2024", "10:00:01", 1000),
        ("1.5.2024", "10:00:01", 1000),
        ("2024-5-1", "10:00:01", 1000),
        ("20240501", "100001", 1000),
        ("20240501", "100001.5", 1500),
        ("2024-05-01", "2024-05-01T10:00:01Z", 1000),
        ("2024-05-01T10:00:01Z", "100001", 1000),
        ("2024-05-01", "soon", None),
        ("05/01/2024", "10:00:01", None),
    ],
)
def test_date_and_time_in_two_columns(tmp_path: Path, date: str, clock: str, ms: int | None) -> None:
    source = source_of(tmp_path, f"{UNICSV}1,47.1,8.1,401,1.5,90,{date},{clock}\n", "a.csv")
    assert places(rows_of(source, "csv")) == [(ms, 8.1, 47.1)]
    assert (AMBIGUOUS in source.notes) == ("/2024" in date)


def test_one_digit_of_the_hour(tmp_path: Path) -> None:
    rows = rows_of(source_of(tmp_path, "date,time,lat,lon\n2024-05-01,9:59:59,47,8\n2024-05-01,95959,47,8\n", "a.csv"))
    assert places(rows) == [(-1000, 8, 47), (-1000, 8, 47)]


def test_a_logger_with_sides_milliseconds_and_rows_without_a_fix(tmp_path: Path) -> None:
    source = source_of(
        tmp_path,
        QSTARZ
        + "1,1,SPS,2024/05/01,10:00:01,2024/05/01,12:00:01,500,47.1,N,8.1,E,401,36.0\n"
        + "2,1,NO FIX,2024/05/01,10:00:02,2024/05/01,12:00:02,000,0,N,0,E,0,0\n"
        + "3,1,DGPS,2024/05/01,10:00:03,2024/05/01,12:00:03,7,47.2,S,8.2,W,402,18.0\n",
        "log.csv",
    )
    rows = rows_of(source)
    assert places(rows) == [(1500, 8.1, 47.1), (3007, -8.2, -47.2)]
    assert rows["refused"].tolist() == ["", INVALID, ""]
    assert rows["speed"].tolist() == [10, 0, 5]
    assert UTC_ASSUMED not in source.notes, "the column says UTC"


def test_columbus(tmp_path: Path) -> None:
    source = source_of(tmp_path, COLUMBUS + "1,T,240501,100001,47.1N,8.1W,401,36,90,\n", "a.csv")
    rows = rows_of(source)
    assert places(rows) == [(1000, -8.1, 47.1)]
    assert rows["speed"].tolist() == [10]


@pytest.mark.parametrize(
    ("lat", "lon", "place"),
    [
        ("47.1N", "8.1E", (8.1, 47.1)),
        ("47.1 s", "8.1 w", (-8.1, -47.1)),
        ("S47.1", "W8.1", (-8.1, -47.1)),
        ("-47.1", "+8.1", (8.1, -47.1)),
        ("47.1°S", "8.1° E", (8.1, -47.1)),
        ("47.1°", "8.1", None),
        ("47.1E", "8.1N", None),
        ("47.1X", "8.1", None),
    ],
)
def test_sides_in_the_value(tmp_path: Path, lat: str, lon: str, place: tuple[float, float] | None) -> None:
    rows = rows_of(source_of(tmp_path, f"t,lat,lon\n1714557600,{lat},{lon}\n1714557601,47,8\n", "a.csv"))
    found = rows.loc[0, ["lon", "lat"]].tolist()
    assert found == list(place) if place else math.isnan(found[1])
    assert rows.loc[1, ["lon", "lat"]].tolist() == [8, 47]


@pytest.mark.parametrize(
    ("header", "value", "m_s"),
    [
        ("speed", "10", 10),
        ("speed_kmh", "36", 10),
        ("Speed (km/h)", "36", 10),
        ("speed [knots]", "10", 10 * KNOT),
        ("Speed(kn)", "10", 10 * KNOT),
        ("speed_mph", "10", 4.4704),
        ("speed (m/s)", "10", 10),
        ("speed", "36.0 km/h", 10),
        ("speed_mph", "36 km/h", 10),
        ("velocity", "10 kn", 10 * KNOT),
        ("speed", "3 mach", math.nan),
        ("speed", "fast", math.nan),
    ],
)
def test_units_of_speed(tmp_path: Path, header: str, value: str, m_s: float) -> None:
    rows = rows_of(source_of(tmp_path, f"t,lat,lon,{header}\n1714557600,47,8,{value}\n", "a.csv"))
    assert rows["speed"].tolist() == pytest.approx([m_s], nan_ok=True)


def test_units_of_heights(tmp_path: Path) -> None:
    rows = rows_of(source_of(tmp_path, "t,lat,lon,altitude_ft,accuracy\n1,47,8,1000,5 m\n2,47,8,,16.4 ft\n", "a.csv"))
    assert rows["altitude"].tolist() == pytest.approx([304.8, math.nan], nan_ok=True)
    assert rows["accuracy"].tolist() == pytest.approx([5, 16.4 * 0.3048])
    rows = rows_of(source_of(tmp_path, "t,lat,lon,height\n1,47,8,401 M\n", "a.csv"))
    assert rows["altitude"].tolist() == [401]


def test_speeds_that_disagree_with_distance_over_time_are_set_aside(tmp_path: Path) -> None:
    def table(header: str, speed: float, rows: int = 40) -> str:
        # 10 m/s to the north
        lines = (f"{1714557600 + i},{47 + i * 10 / 111_195:.7f},8,{speed}\n" for i in range(rows))
        return f"t,lat,lon,{header}\n" + "".join(lines)

    for name, speed, unit in (("kmh", 36, "km/h"), ("knots", 10 / KNOT, "knots"), ("mph", 22.37, "mph")):
        source = source_of(tmp_path, table("velocity", speed), "a.csv")
        assert rows_of(source)["speed"].isna().all()
        (note,) = source.notes
        assert f"as if they were in {unit}" in note
        assert f"speed_{name}" in note
        source = source_of(tmp_path, table(f"speed_{name}", speed), "a.csv")
        assert rows_of(source)["speed"].tolist() == pytest.approx([10] * 40, rel=1e-3)
        assert not source.notes
    for speed, notes in ((9, 0), (13, 0), (100, 1), (1, 1)):
        source = source_of(tmp_path, table("speed", speed), "a.csv")
        assert rows_of(source)["speed"].tolist() == [speed] * 40
        assert len(source.notes) == notes
    few = source_of(tmp_path, table("speed", 10 / KNOT, rows=3), "a.csv")
    assert not rows_of(few)["speed"].isna().any(), "two links do not tell knots from a bend"


def test_the_report_of_traccar(tmp_path: Path) -> None:
    header = "id,deviceId,protocol,serverTime,deviceTime,fixTime,valid,latitude,longitude,altitude,speed,course,address"
    rest = "47.1,8.1,401.0,10.0,90.0,,"
    source = source_of(
        tmp_path,
        f"{header},accuracy\n"
        f"1,3,osmand,2024-05-01 10:00:03,2024-05-01 10:00:02,2024-05-01 10:00:01,true,{rest}5.0\n"
        f"2,3,osmand,2024-05-01 10:00:03,2024-05-01 10:00:02,2024-05-01 10:00:02,false,{rest}5.0\n"
        f"3,3,osmand,2024-05-01 10:00:04,2024-05-01 10:00:03,2024-05-01 10:00:03,true,{rest}0.0\n",
        "report.csv",
    )
    rows = rows_of(source)
    assert places(rows) == [(1000, 8.1, 47.1), (3000, 8.1, 47.1)]
    assert rows["speed"].tolist()[0] == pytest.approx(10 * KNOT)
    assert rows["accuracy"].tolist() == pytest.approx([5, 5, math.nan], nan_ok=True)
    assert set(rows["device"]) == {"3"}
    assert source.notes == [UTC_ASSUMED]


def test_geopulse_has_kilometres_an_hour(tmp_path: Path) -> None:
    header = "timestamp,latitude,longitude,accuracy,velocity,altitude,battery,device_id,source_type"
    source = source_of(tmp_path, f"{header}\n2024-05-01T10:00:00Z,47.1,8.1,5,36,401,80,p,CSV\n", "a.csv")
    assert rows_of(source)["speed"].tolist() == [10]


@pytest.mark.parametrize(
    "text",
    [
        "# made by a logger\n# v2\nts,lat,lon\n1714557600,47.1,8.1\n",
        "#ts,lat,lon\n1714557600,47.1,8.1\n",
        "// comment\n% another, one\n\nts,lat,lon\n1714557600,47.1,8.1\n",
        "sep=;\nts;lat;lon\n1714557600;47,1;8,1\n",
        "\ufeffsep=,\nts,lat,lon\n1714557600,47.1,8.1\n",
        "My walk\nRecorded in May, at home\nts,lat,lon\n1714557600,47.1,8.1\n",
        "ts,lat,lon\n# a comment, too\n1714557600,47.1,8.1\n",
        'ts,lat,lon,n\n# a comment\n1714557600,47.1,8.1,"x"\n',
        "ts,lat,lon\n1714557600,47.1,8.1,\n",
    ],
)
def test_comments_titles_and_a_trailing_comma(tmp_path: Path, text: str) -> None:
    rows = rows_of(source_of(tmp_path, text, "a.csv"), "csv")
    assert places(rows) == [(0, 8.1, 47.1)]


def test_a_name_that_begins_like_a_comment_is_a_name(tmp_path: Path) -> None:
    rows = rows_of(source_of(tmp_path, "user,ts,lat,lon\n#bob,1714557600,47.1,8.1\n", "a.csv"))
    assert rows["user"].tolist() == ["#bob"]


def test_an_error_names_the_line_below_comments(tmp_path: Path) -> None:
    source = source_of(tmp_path, '# x\n\nts,lat,lon,n\n1,2,3,a\n1,2,3,"b\n', "a.csv")
    with pytest.raises(UnreadableFile, match="line 5: the file breaks off inside quotes"):
        rows_of(source)


@pytest.mark.parametrize("name", ["tracked_at", "t", "logged_at", "Captured At", "timestamp_ns"])
def test_more_names_of_times(tmp_path: Path, name: str) -> None:
    rows = rows_of(source_of(tmp_path, f"uid,{name},lat,lon\n7,1714557600,47.1,8.1\n", "a.csv"))
    assert places(rows) == [(0, 8.1, 47.1)]
    assert rows["user"].tolist() == ["7"]


@pytest.mark.parametrize("digits", ["1714557600", "1714557600123", "1714557600123456", "1714557600123456789"])
def test_epochs_of_any_unit_by_their_size(tmp_path: Path, digits: str) -> None:
    rows = rows_of(source_of(tmp_path, f"time,lat,lon\n{digits},47.1,8.1\n", "a.csv"))
    assert rows["time_ms"].tolist() == [int(digits.ljust(13, "0")[:13])]


def test_e7_coordinates(tmp_path: Path) -> None:
    by_name = "ts,latitudeE7,longitudeE7\n1714557600,471000000,-81000000\n1714557601,1,2\n"
    assert places(rows_of(source_of(tmp_path, by_name, "a.csv"))) == [(0, -8.1, 47.1), (1000, 2e-7, 1e-7)]
    by_size = "ts,lat,lon\n1714557600,471000000,81000000\n1714557601,471000001,10000\n"
    assert places(rows_of(source_of(tmp_path, by_size, "a.csv"))) == [(0, 8.1, 47.1), (1000, 0.001, 47.1000001)]
    micro = rows_of(source_of(tmp_path, "ts,lat,lon\n1714557600,47100000,8100000\n", "a.csv"))
    assert micro["lat"].tolist() == [47100000], "may be 1e-6 or 1e-7 degrees: refused rather than guessed"


def test_times_without_a_zone_are_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_ROWS", 1)
    rows = "2024-05-01 10:00:00,47,8\n2024-05-01 10:00:01,47,8\n"
    source = source_of(tmp_path, "time,lat,lon\n" + rows, "a.csv")
    rows_of(source)
    assert source.notes == [UTC_ASSUMED]
    for text in ("2024-05-01T10:00:00Z", "2024-05-01T12:00:00+02:00", "2024-05-01 10:00:00 UTC", "1714557600.5"):
        source = source_of(tmp_path, f"time,lat,lon\n{text},47,8\n", "a.csv")
        assert rows_of(source)["time_ms"].tolist()[0] in (T0, T0 + 500)
        assert source.notes == []


def test_a_nul_costs_its_row(tmp_path: Path) -> None:
    rows = [f"{1714557600 + i},47.{i},8\n" for i in range(5)]
    rows[2] = rows[2].replace("47", "4\0")
    source = source_of(tmp_path, "t,lat,lon\n" + " " * 300 + "\n" + "".join(rows) + "\0" * 600, "a.csv")
    read = rows_of(source, "csv")
    assert np.isfinite(read["lat"]).sum() == 4


def test_utf_16_without_a_mark(tmp_path: Path) -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        rows = rows_of(source_of(tmp_path, "ts,lat,lon,user\n1714557600,47,8,Zoë\n".encode(codec), "a.csv"), "csv")
        assert rows["user"].tolist() == ["Zoë"]
