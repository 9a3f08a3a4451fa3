"""What scikit-learn's tools ask of an estimator besides fit and predict; they alone load scikit-learn itself."""

import inspect
import sys
from typing import Any, Self

from pysonar._inputs import plain_array
from pysonar.errors import ModelError, ValidationSetError

__all__ = ["Estimator", "table_of"]


class Estimator:
    """Parameters by the constructor's names, tags, and whether it is fitted."""

    _estimator_type = "classifier"

    @classmethod
    def _parameter_names(cls) -> list[str]:
        names = inspect.signature(cls.__init__).parameters
        return sorted(name for name in names if name != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  (no parameter is an estimator)
        """The constructor's arguments as they are now."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Changes arguments for the next `fit`; raises ModelError for one that the constructor does not have."""
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise ModelError(f"{type(self).__name__} has no parameter {name!r}: it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def _require_fitted(self) -> None:
        if self.__sklearn_is_fitted__():
            return
        words = f"this {type(self).__name__} has learned nothing yet: fit it, or take a campaign's result"
        if "sklearn" in sys.modules:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(words)
        raise ModelError(words)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn 1.6 and newer ask: a supervised estimator of dense, finite numbers."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifies = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True, multi_output=not classifies),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else RegressorTags(),
            input_tags=InputTags(),
        )


def table_of(given: Any) -> tuple[Any, int, tuple[str, ...] | None]:
    """Features to be learned from: what `feature_table` takes, their number, and their names where columns bear some.

    Raises ValidationSetError for what is not one row a record and one column a feature.
    """
    columns = getattr(given, "columns", None)
    if columns is not None:
        named = all(isinstance(column, str) for column in columns)
        return given, len(columns), tuple(columns) if named else None
    table = plain_array(given)
    if table.ndim != 2:
        raise ValidationSetError(
            f"the features have shape {table.shape}, not (records, features). Reshape your data: one row a record and "
            "one column a feature"
        )
    return table, table.shape[1], None
