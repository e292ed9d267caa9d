"""The Python client of the service; needs no torch and no server code."""
