"""The plainest CEL conditions over whole columns: comparisons of variables and numbers, joined by && and ||.

CEL compares doubles with doubles and whole numbers exactly as IEEE 754 does, and so does numpy. Anything else in an
expression (arithmetic, brackets, functions, text) is left to CEL itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_TERM = r"(?:[A-Za-z_]\w*|-?\d{1,15}(?:\.\d{1,15})?)"
_COMPARISON = re.compile(rf"\s*({_TERM})\s*(<=|>=|==|!=|<|>)\s*({_TERM})\s*", re.ASCII)
_COMPARE: dict[str, Callable[[Floats, Floats], Flags]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


def decide(expression: str, variables: Mapping[str, Floats]) -> Flags | None:
    """Where the expression is true; None when it says more than comparisons of these variables."""
    decided: Flags | None = None
    for alternative in expression.split("||"):
        all_true: Flags | None = None
        for text in alternative.split("&&"):
            one = _compared(text, variables)
            if one is None:
                return None
            all_true = one if all_true is None else all_true & one
        decided = all_true if decided is None or all_true is None else decided | all_true
    return decided


def _compared(text: str, variables: Mapping[str, Floats]) -> Flags | None:
    found = _COMPARISON.fullmatch(text)
    if found is None:
        return None
    left, right = _term(found[1], variables), _term(found[3], variables)
    if left is None or right is None or left.shape == right.shape == ():
        return None
    return _COMPARE[found[2]](left, right)


def _term(text: str, variables: Mapping[str, Floats]) -> Floats | None:
    if text[0].isalpha() or text[0] == "_":
        return variables.get(text)
    return np.array(float(text))
