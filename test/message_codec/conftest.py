# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the tests of the codec share."""

from marigold_ros.errors import InputError
import pytest


@pytest.fixture(scope='session')
def cause_of():
    """Give a function that calls another one, which refuses its arguments, and names the cause."""

    def cause(function, *arguments):
        with pytest.raises(InputError) as caught:
            function(*arguments)
        return caught.value.cause

    return cause
