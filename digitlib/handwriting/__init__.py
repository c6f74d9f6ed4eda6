"""A picture in, a reading out: find the digits, normalise them, read them; and other hands."""
