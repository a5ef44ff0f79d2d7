"""Every error that a user can cause or must act on.

    GenmodelError                 one line: what is wrong, where, and the fix; the command line exits with 2
    |-- ConfigError               params.yaml or --set: unknown key, wrong type, out of range
    |-- SourceError               raw images: missing, empty, unreadable, too many rejects
    |-- BlockError                the block: missing, damaged, of another version, without a size or a split
    |-- ModelError                a trained model's folder: missing, damaged, of another family
    |-- CheckpointError           a checkpoint that cannot be read
    |   `-- SettingsChangedError  a resume under other settings
    |-- TrainingDivergedError     losses that are not numbers any more
    |-- EvaluationError           features or figures that cannot be made
    |   `-- IncomparableError     figures made under different conditions
    |-- StorageError              no space left, no permission
    |-- TrackingError             the MLflow server or its registry
    `-- VersioningError           DVC and its files

A programmer's mistake is an assert, never one of these.
"""

from genmodel.output.printable import printable


class GenmodelError(Exception):
    """Base of all errors that are shown to the user as one line, whatever names they quote."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(GenmodelError):
    pass


class SourceError(GenmodelError):
    pass


class BlockError(GenmodelError):
    pass


class ModelError(GenmodelError):
    pass


class CheckpointError(GenmodelError):
    pass


class SettingsChangedError(CheckpointError):
    pass


class TrainingDivergedError(GenmodelError):
    pass


class EvaluationError(GenmodelError):
    pass


class IncomparableError(EvaluationError):
    pass


class StorageError(GenmodelError):
    pass


class TrackingError(GenmodelError):
    pass


class FollowedError(TrackingError):
    """Another process sends the record of the same training."""


class VersioningError(GenmodelError):
    pass
