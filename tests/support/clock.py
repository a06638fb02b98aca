"""A clock in the place of the clocks of the machine."""

# The modules that look at a clock to end something.
PLACES = ("pynode.core.stop_conditions", "pynode.failure.rerun")


class Clock:
    """Stands for the module `time` in these places. A function under `ticking` moves it on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self._monkeypatch = monkeypatch
        self.serve(*PLACES)

    def serve(self, *places):
        """Stand for the module `time` in these modules, too."""
        for place in places:
            self._monkeypatch.setattr(f"{place}.time", self)

    def monotonic(self):
        return self.now

    perf_counter = process_time = monotonic

    def ticking(self, function, seconds=1.0):
        def called(t, y):
            self.now += seconds
            return function(t, y)

        return called
