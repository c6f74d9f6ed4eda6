"""Other classifiers on the same rows: who they are, the kernel machine, what may be concluded."""
