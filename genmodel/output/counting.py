"""Counts in messages, in the singular or the plural."""


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 image", "1,797 images", "2 classes"."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"
