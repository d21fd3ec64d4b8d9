import pytest

from pipelines.artifacts.progress import LINE_SECONDS, LineSink, Pace, describe


def test_a_line_names_the_work_its_rate_and_the_time_left() -> None:
    line = describe("dedup", 2_000, 20_000, "documents", {}, 150.0)
    assert line == "dedup: 2,000/20,000 documents (10%), 150 documents/s, 2:00 left"


def test_hours_are_written_as_hours() -> None:
    assert describe("pretrain", 1, 10_001, "steps", {"loss": 2.5}, 1.0).endswith("1 steps/s, 2:46:40 left loss 2.5")


def test_work_without_a_total_has_a_rate_and_no_time_left() -> None:
    assert describe("ingest", 300, None, "records", {}, 0.5) == "ingest: 300 records, 0.5 records/s"


def test_work_that_does_not_move_promises_nothing() -> None:
    assert describe("ingest", 3, 10, "shards", {}, 0.0) == "ingest: 3/10 shards (30%)"


def test_what_an_earlier_run_did_is_no_speed() -> None:
    pace = Pace(1_000)
    pace.start -= 10
    assert pace.rate(1_050) == pytest.approx(5, rel=0.1)


def test_lines_come_after_two_seconds_and_then_every_ten(capsys: pytest.CaptureFixture[str]) -> None:
    sink = LineSink()
    sink.show("ingest", 1, 4, "shards", {})
    assert capsys.readouterr().err == ""
    sink.last -= LINE_SECONDS
    sink.show("ingest", 2, 4, "shards", {})
    sink.show("ingest", 3, 4, "shards", {})
    assert capsys.readouterr().err.count("ingest: 2/4 shards (50%)") == 1
