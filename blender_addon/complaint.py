"""Errors whose messages can be translated where they are shown. Does not import Blender."""

from collections.abc import Callable


class Complaint(ValueError):
    """An error whose message is a template with named placeholders, and their values."""

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text.format(**values))
        self._text, self._values = text, values

    def translated(self, translate: Callable[[str], str]) -> str:
        """Return the message with a translated template."""
        return translate(self._text).format(**self._values)


def message_of(error: Exception, translate: Callable[[str], str]) -> str:
    """Return the message of an error, translated if it is a `Complaint`."""
    return error.translated(translate) if isinstance(error, Complaint) else str(error)
