"""Public test kit, for us and for authors of drivers: contract suites, fakes, builders."""
