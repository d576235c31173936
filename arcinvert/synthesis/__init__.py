"""The job around an inversion: files, resume, processes, tests of what came out, sheets, film."""
