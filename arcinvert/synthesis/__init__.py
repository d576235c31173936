"""The job around an inversion: files, resume, processes, robustness and diversity of the images, sheets, film."""
