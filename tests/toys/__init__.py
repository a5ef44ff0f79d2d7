"""Families of under 60 lines, each for one thing that a family may need.

The fixture `toys` registers them for a test.
"""

TOYS = {
    name: f"toys.{name}:Toy"
    for name in ("labels", "categories", "begun", "autoregressive", "scheduled", "three", "conditional", "unused")
}
