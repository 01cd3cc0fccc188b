"""Times, sizes and amounts: what is read, what is refused, and that what is shown is read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.config import ConfigError
from daybreak.config.quantities import in_usd, size_in, time_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90min", 5400), ("90m", 5400), ("1h30m", 5400), ("1h 30min", 5400), ("45s", 45), ("2d", 172800),
     ("5ms", 0.005), ("1.5h", 5400), ("1H", 3600)],
)  # fmt: skip
def test_times(text, seconds):
    assert time_in("s").parse(text, "--deadline") == pytest.approx(seconds)
    assert time_in("h").parse(text, "--deadline") == pytest.approx(seconds / 3600)


@pytest.mark.parametrize("text", ["24", "0.5", "h", "1x", "", "-3h", "1h or so", "256MB"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ConfigError, match="--deadline is .*; it must be a time with its unit: 24h, 90min,"):
        time_in("s").parse(text, "--deadline")


def test_sizes():
    assert [size_in("MB").parse(t, "--shard-size") for t in ("256MB", "1.5gb", "1500KB")] == [256, 1500, 1.5]
    with pytest.raises(ConfigError, match="--shard-size is '256'; it must be a size with its unit: 256MB"):
        size_in("MB").parse("256", "--shard-size")


def test_amounts():
    amounts = ("1500usd", "$1500", "1500", "2.0/gpu-hour")
    assert [in_usd("usd").parse(t, "--budget") for t in amounts] == [1500, 1500, 1500, 2]
    with pytest.raises(ConfigError, match="--price is 'a lot'; it must be an amount in USD such as 2.5/gpu-hour"):
        in_usd("/gpu-hour").parse("a lot", "--price")


@given(
    st.floats(1e-3, 1e6), st.sampled_from([time_in("s"), time_in("h"), time_in("min"), size_in("MB"), in_usd("usd")])
)
def test_what_is_shown_is_read_again(value, quantity):
    assert quantity.parse(quantity.shown(value), "x") == pytest.approx(value, rel=1e-3)


def test_short_forms():
    assert [time_in("s").shown(v) for v in (120, 0.005, 5400, 90, 0)] == ["2min", "5ms", "1h30min", "1min30s", "0"]
    assert time_in("h").shown(24.0) == "24h" and size_in("MB").shown(256.0) == "256MB"
