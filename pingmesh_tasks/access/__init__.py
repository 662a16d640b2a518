"""The access logs of data servers: collected without losing a line, taken apart, counted."""
