"""What a training shows of itself: pictures, gauges, profiles. Nothing here decides a byte of its weights.

training/ does not import it: whoever starts a training hands it over (display.py).
"""
