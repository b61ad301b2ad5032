"""Complaint: what is wrong, in one sentence that can be translated where it is shown. It knows no Blender."""

from collections.abc import Callable


class Complaint(ValueError):
    """A sentence with places in braces, and what stands in them."""

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text.format(**values))
        self._text, self._values = text, values

    def translated(self, translate: Callable[[str], str]) -> str:
        """The sentence, its text translated."""
        return translate(self._text).format(**self._values)


def told(error: Exception, translate: Callable[[str], str]) -> str:
    """What to say of an error: a complaint in the user's language, others as they are."""
    return error.translated(translate) if isinstance(error, Complaint) else str(error)
