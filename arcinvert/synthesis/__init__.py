"""The job around an inversion: files, resume, processes, robustness, diversity, sheets, film, content credentials."""
