"""The stages that score, compress, package and report, as tasks."""

from pipelines.compression.quantize import QUANTIZE
from pipelines.evaluation.compare import COMPARE
from pipelines.evaluation.evaluate import EVALUATE
from pipelines.reporting.report import REPORT
from pipelines.serving.package import PACKAGE
from tasks.bridge import as_task

evaluate = as_task(EVALUATE)
compare = as_task(COMPARE)
quantize = as_task(QUANTIZE)
package = as_task(PACKAGE)
report = as_task(REPORT)
