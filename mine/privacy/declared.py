"""A data set as decisions may see it where privacy is on: what its owner declared, and nothing that a record can turn.

That a mine posts, or does not, is seen by everybody, costs no budget, and depends on what a campaign asks for: its
ranges, types, classes and least number of records. Compared with exact minima, counts or faults of the data, these
would be questions with exact answers. So columns count by their names and units, classes by their names, and records by
a number of two digits as of when the data set was added, whatever the campaign.
"""

import math
from dataclasses import replace

from mine.data import Dataset

__all__ = ["about", "declared"]


def declared(dataset: Dataset, least_of_class: int) -> Dataset:
    """The data set with columns that take any range and type, and classes of at least so many records, uncounted.

    For matching and rules only: what is read is still the data set itself.
    """
    columns = tuple(
        replace(column, type="boolean", minimum=math.nan, maximum=math.nan, missing=0, bad=0)
        for column in dataset.columns
    )
    labels = tuple((label, 0) for label, count in dataset.labels if count >= least_of_class)
    return replace(dataset, columns=columns, labels=labels, records=about(dataset.records), unlabelled=0, bad_images=0)


def about(records: int) -> int:
    """A number of records with two digits, rounded down."""
    step = int(10 ** max(0, len(str(records)) - 2))
    return records // step * step
