"""Floor 7: offline scores of an emulator beside the training mean and a ridge regression, and labelled prediction."""

from subgrid.evaluation.offline import EvaluateConfig, evaluate
from subgrid.evaluation.predict import predict

__all__ = ["EvaluateConfig", "evaluate", "predict"]
