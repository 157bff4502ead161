"""Properties are checked on the same examples each time; how long one takes tells of the machine, so none is timed."""

from hypothesis import settings

settings.register_profile("score-distill", deadline=None, derandomize=True)
settings.load_profile("score-distill")
