"""What a training shows: pictures, gauges, profiles. Nothing here affects its weights.

training/ does not import it: whoever starts a training passes it in (display.py).
"""
