"""The public names of the package: what users import, and what they may meet."""

import inspect

import pytest

import captionlens
from captionlens import errors


def test_every_public_name_is_there() -> None:
    assert sorted(captionlens.__all__) == captionlens.__all__
    for name in captionlens.__all__:
        assert getattr(captionlens, name) is not None
    named = {name for names in captionlens._HOMES.values() for name in names}
    assert named == set(captionlens.__all__) - {"__version__"}


def test_every_error_a_user_can_meet_is_public() -> None:
    found = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    assert found <= set(captionlens.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Caption2'"):
        captionlens.Caption2  # noqa: B018
