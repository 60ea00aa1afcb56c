"""The results of the checks, as a table."""


class Table:
    def __init__(self, checks):
        self.checks = checks
        self.rows = {}

    def ok(self, row, check):
        self.rows.setdefault(row, {})[check] = None

    def failed(self, row, check, why):
        self.rows.setdefault(row, {})[check] = f"{why}"

    def show(self):
        """Prints the table; returns whether nothing failed."""
        names = [" x ".join(row) for row in self.rows]
        width = max(map(len, names), default=0)
        print(" " * width, *self.checks, sep="  ")
        for name, done in zip(names, self.rows.values()):
            cells = (self._cell(done, check).ljust(len(check)) for check in self.checks)
            print(f"{name:<{width}}", *cells, sep="  ")
        failures = [(row, check, why) for row, done in self.rows.items() for check, why in done.items() if why]
        for row, check, why in failures:
            print(f"failed: {' x '.join(row)}, {check}: {why}")
        passed = sum(map(len, self.rows.values())) - len(failures)
        print(f"{passed} passed, {len(failures)} failed")
        return not failures

    @staticmethod
    def _cell(done, check):
        if check not in done:
            return "-"
        return "failed" if done[check] else "ok"
