"""The paper wing: notebooks in, finished report folders out. It knows nothing of training and imports no torch."""
