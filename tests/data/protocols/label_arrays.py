"""Made-up labels and parts of data sets, and the sizes of a split."""

import numpy as np

SETS = ("train", "query", "database")


def class_ids(classes, of_each):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), of_each))


def multi_hot(items, classes, unlabeled=0):
    """Rows of one to three labels, each label as frequent as another; some rows of none."""
    rows = np.zeros((items, classes), np.int8)
    labels = np.random.default_rng(1).integers(0, classes, (items, 3))
    np.put_along_axis(rows, labels, 1, axis=1)
    rows[np.random.default_rng(2).permutation(items)[:unlabeled]] = 0
    return rows


def parts(train, test):
    """Test items first, so that no protocol can rely on where they stand."""
    return np.repeat(np.array([1, 0], np.int8), [test, train])


def sizes(split):
    return [len(getattr(split, name)) for name in SETS]
