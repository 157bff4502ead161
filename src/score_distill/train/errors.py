"""What can go wrong in training that a person can do something about."""

from score_distill.errors import BadInput, Exit, Infrastructure


class TrainError(BadInput):
    """A training run cannot go on; the message says what is wrong, where, what would be right."""


class ModelError(TrainError):
    """The model folder is incomplete, or the model does something that the engine does not do."""


class DataError(TrainError):
    """A row or sample is malformed, or nothing is left to train on."""


class DivergedError(TrainError):
    """A loss or gradient is no longer a finite number; the last checkpoint is still good."""

    exit = Exit.MODEL


class CheckpointError(TrainError):
    """A checkpoint does not fit this run."""


class DeviceMemoryError(TrainError):
    """The device has no room for one pack."""

    exit = Exit.MODEL


class PeersMissing(Infrastructure):
    """The processes of a trainer did not find each other in time."""
