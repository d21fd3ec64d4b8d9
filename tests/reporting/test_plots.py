"""The plots of a training stage."""

from pipelines.reporting.plots import as_svg, course_plot

CURVE = [{"step": step, "loss": 2.0, "lr": 0.1 * step, "grad_norm": 1.0} for step in range(1, 5)]
LOG = [{"step": 2, "tokens_per_second": 100.0}, {"step": 4, "tokens_per_second": 90.0}]


def test_the_course_of_a_stage_shows_rate_gradient_and_throughput_where_it_was_logged() -> None:
    labels = [axes.get_ylabel() for axes in course_plot("pretrain", CURVE, LOG).axes]
    assert labels == ["learning rate", "gradient length", "tokens a second"]
    assert len(course_plot("sft", CURVE, []).axes) == 2
    assert as_svg(course_plot("sft", CURVE, [])) == as_svg(course_plot("sft", CURVE, []))
